// A session of onnxruntime: opening a graph and running it, with the errors people get to see.
#ifndef FUSIONCAM_SESSION_HPP
#define FUSIONCAM_SESSION_HPP

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "error.hpp"
#include "interface.hpp"
#include "target.hpp"

namespace fusioncam {
namespace detail {

/// Throws Error where the library is older than the headers: onnxruntime would hand out a null pointer instead.
inline void require_library() {
    if (!OrtGetApiBase()->GetApi(ORT_API_VERSION)) {
        throw Error("the onnxruntime library is " + std::string(OrtGetApiBase()->GetVersionString()) +
                    ", older than the headers this program was compiled with (API " + std::to_string(ORT_API_VERSION) +
                    "); install a newer library, or compile with its own headers");
    }
}

/// What onnxruntime's Python package makes of an error: code, its name, and the first line of the message.
inline std::string ort_text(const Ort::Exception &error) {
    constexpr std::array<const char *, 12> names{"SUCCESS",           "FAIL",
                                                 "INVALID_ARGUMENT",  "NO_SUCHFILE",
                                                 "NO_MODEL",          "ENGINE_ERROR",
                                                 "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
                                                 "MODEL_LOADED",      "NOT_IMPLEMENTED",
                                                 "INVALID_GRAPH",     "EP_FAIL"};
    const auto code = static_cast<std::size_t>(error.GetOrtErrorCode());
    const std::string name = code < names.size() ? names[code] : "UNKNOWN";
    return first_line("[ONNXRuntimeError] : " + std::to_string(code) + " : " + name + " : " + error.what());
}

/// A graph on onnxruntime.
class Session {
  public:
    /// Throws BundleError where onnxruntime cannot load the file.
    Session(const std::filesystem::path &file, const Ort::SessionOptions &options)
        : env_(open_environment()), session_(open(file, options)) {}

    /// A value of the graph's metadata, or nothing.
    std::optional<std::string> metadata(const std::string &key) const {
        Ort::AllocatorWithDefaultOptions allocator;
        const auto value = session_.GetModelMetadata().LookupCustomMetadataMapAllocated(key.c_str(), allocator);
        return value ? std::optional<std::string>(value.get()) : std::nullopt;
    }

    /// The values of `outputs`, by name, for a preprocessed picture and a target that was checked; `inputs` are what the
    /// graph takes of them. Throws DeadlineError where the run was ended, Error where it fails.
    Outputs run(const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs, const float *x,
                const TargetTensors &target, const Ort::RunOptions &options) const {
        Outputs result;
        try {
            const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
            std::vector<const char *> given, wanted;
            std::vector<Ort::Value> values;
            for (const Tensor &tensor : inputs) {
                given.push_back(tensor.name.c_str());
                // onnxruntime takes inputs as mutable, and does not write to them.
                values.push_back(Ort::Value::CreateTensor(
                    memory, const_cast<void *>(tensor.name == "image" ? x : target.at(tensor.name)), tensor.bytes(),
                    tensor.shape.data(), tensor.shape.size(), element_types().at(tensor.type)));
            }
            for (const Tensor &tensor : outputs) {
                wanted.push_back(tensor.name.c_str());
            }
            const std::vector<Ort::Value> found =
                session_.Run(options, given.data(), values.data(), values.size(), wanted.data(), wanted.size());
            for (std::size_t i = 0; i < wanted.size(); ++i) {
                const std::size_t count = found[i].GetTensorTypeAndShapeInfo().GetElementCount();
                if (count != outputs[i].count()) {
                    throw Error("the model gives " + std::to_string(count) + " values as " + outputs[i].name +
                                "; export it again, with --single");
                }
                std::memcpy(result.room(outputs[i]), found[i].GetTensorRawData(), outputs[i].bytes());
            }
        } catch (const Ort::Exception &error) {
            fail(error);
        }
        return result;
    }

    /// The inputs and outputs that the session has.
    Interface described() const {
        Ort::AllocatorWithDefaultOptions allocator;
        Interface found;
        for (std::size_t i = 0; i < session_.GetInputCount(); ++i) {
            found[std::string("input ") + session_.GetInputNameAllocated(i, allocator).get()] =
                described(session_.GetInputTypeInfo(i));
        }
        for (std::size_t i = 0; i < session_.GetOutputCount(); ++i) {
            found[std::string("output ") + session_.GetOutputNameAllocated(i, allocator).get()] =
                described(session_.GetOutputTypeInfo(i));
        }
        return found;
    }

    static std::string described(const Ort::TypeInfo &type) {
        if (type.GetONNXType() != ONNX_TYPE_TENSOR) {
            return "no tensor";
        }
        const auto info = type.GetTensorTypeAndShapeInfo();
        for (const auto &[name, element] : element_types()) {
            if (element == info.GetElementType()) {
                return name + " " + shape_text(info.GetShape());
            }
        }
        return "of another type " + shape_text(info.GetShape());
    }

  private:
    static Ort::Env open_environment() {
        require_library();
        return {ORT_LOGGING_LEVEL_FATAL, "fusioncam"};
    }

    Ort::Session open(const std::filesystem::path &file, const Ort::SessionOptions &options) const {
        try {
            return {env_, file.c_str(), options};
        } catch (const Ort::Exception &error) {
            throw BundleError("onnxruntime cannot load " + path_text(file) + ": " + ort_text(error) +
                              "; export the model again");
        }
    }

    [[noreturn]] static void fail(const Ort::Exception &error) {
        std::string text = error.what();
        std::transform(text.begin(), text.end(), text.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
        const auto says = [&text](const char *word) { return text.find(word) != std::string::npos; };
        if (says("terminate flag")) {
            throw DeadlineError("the explanation was ended before it was done, by SetTerminate; give it more time");
        }
        const bool memory = says("alloc") || says("memory");
        throw Error("onnxruntime cannot run the model: " + ort_text(error) + "; " +
                    (memory ? "a smaller chunk needs less memory" : "export the model again"));
    }

    /// onnxruntime's names of types, by ours.
    static const std::map<std::string, ONNXTensorElementDataType> &element_types() {
        static const std::map<std::string, ONNXTensorElementDataType> types{
            {"float32", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
            {"int64", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
            {"bool", ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL}};
        return types;
    }

    Ort::Env env_;
    mutable Ort::Session session_; // whose Run is not const, though it may be called concurrently
};

} // namespace detail
} // namespace fusioncam

#endif
