// The session behind an Explainer: opening a graph, holding it against its manifest, and running it.
#ifndef FUSIONCAM_GRAPH_HPP
#define FUSIONCAM_GRAPH_HPP

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "error.hpp"
#include "interface.hpp"
#include "manifest.hpp"

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

class Graph {
  public:
    Graph(const std::filesystem::path &bundle, const Ort::SessionOptions &options)
        : env_(open_environment()), session_(open(graph_file(bundle), options)) {
        const std::string path = path_text(graph_file(bundle));
        Ort::AllocatorWithDefaultOptions allocator;
        const Ort::ModelMetadata metadata = session_.GetModelMetadata();
        manifest_ = read_manifest(path, [&](const std::string &key) -> std::optional<std::string> {
            const auto value = metadata.LookupCustomMetadataMapAllocated(key.c_str(), allocator);
            return value ? std::optional<std::string>(value.get()) : std::nullopt;
        });
        check_interface(described(), manifest_, path + " is no graph of fusioncam's",
                        "make one with `fusioncam export --single`");
    }

    const Manifest &manifest() const { return manifest_; }

    /// All outputs by name, for a preprocessed input of 3 * H * W finite values and a class that exists, or -1.
    Outputs run(const float *x, std::int64_t class_index, const Ort::RunOptions &options) const {
        const Size size = manifest_.preprocessing.size;
        const std::size_t pixels = size.height * size.width;
        const std::array<std::int64_t, 4> shape{1, 3, static_cast<std::int64_t>(size.height),
                                                static_cast<std::int64_t>(size.width)};
        constexpr std::array<const char *, 2> names{"image", "class_index"};
        constexpr std::int64_t one = 1;
        Outputs result;
        try {
            const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
            // onnxruntime takes inputs as mutable, and does not write to them.
            const std::array<Ort::Value, 2> inputs{
                Ort::Value::CreateTensor<float>(memory, const_cast<float *>(x), 3 * pixels, shape.data(), shape.size()),
                Ort::Value::CreateTensor<std::int64_t>(memory, &class_index, 1, &one, 1)};
            const std::vector<Ort::Value> found =
                session_.Run(options, names.data(), inputs.data(), inputs.size(), OUTPUTS.data(), OUTPUTS.size());
            for (std::size_t i = 0; i < OUTPUTS.size(); ++i) {
                const std::size_t count = found[i].GetTensorTypeAndShapeInfo().GetElementCount();
                const float *values = found[i].GetTensorData<float>();
                result[OUTPUTS[i]].assign(values, values + count);
            }
        } catch (const Ort::Exception &error) {
            fail(error);
        }
        check_outputs(result, manifest_);
        return result;
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
        const auto element = info.GetElementType();
        const std::string name = element == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT   ? "float32 "
                                 : element == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ? "int64 "
                                                                                  : "of another type ";
        return name + shape_text(info.GetShape());
    }

    Ort::Env env_;
    mutable Ort::Session session_; // whose Run is not const, though it may be called concurrently
    Manifest manifest_;
};

} // namespace detail
} // namespace fusioncam

#endif
