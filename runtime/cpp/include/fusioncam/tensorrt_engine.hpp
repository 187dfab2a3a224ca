// The TensorRT engine behind a TensorRTExplainer: loading it, holding it against a manifest, and running it.
#ifndef FUSIONCAM_TENSORRT_ENGINE_HPP
#define FUSIONCAM_TENSORRT_ENGINE_HPP

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "error.hpp"
#include "interface.hpp"
#include "manifest.hpp"
#include "target.hpp"

namespace fusioncam {
namespace detail {

/// Throws Error where a call of CUDA failed.
inline void check_cuda(cudaError_t status, const char *doing) {
    if (status != cudaSuccess) {
        throw Error(std::string("CUDA cannot ") + doing + ": " + first_line(cudaGetErrorString(status)) +
                    "; check the driver, and the memory that is free on the GPU");
    }
}

/// Makes a GPU the current one of this thread, and afterwards again the one before.
class OnDevice {
  public:
    explicit OnDevice(int device) {
        check_cuda(cudaGetDevice(&before_), "find a GPU");
        check_cuda(cudaSetDevice(device), "use the GPU");
    }
    ~OnDevice() { static_cast<void>(cudaSetDevice(before_)); }
    OnDevice(const OnDevice &) = delete;
    OnDevice &operator=(const OnDevice &) = delete;

  private:
    int before_ = 0;
};

/// Memory on the GPU.
class DeviceMemory {
  public:
    explicit DeviceMemory(std::size_t bytes) { check_cuda(cudaMalloc(&pointer_, bytes), "allocate memory"); }
    ~DeviceMemory() { static_cast<void>(cudaFree(pointer_)); }
    DeviceMemory(const DeviceMemory &) = delete;
    DeviceMemory &operator=(const DeviceMemory &) = delete;

    void *get() const { return pointer_; }

  private:
    void *pointer_ = nullptr;
};

/// A queue of work on the GPU.
class Stream {
  public:
    Stream() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "use the GPU"); }
    ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }
    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;

    cudaStream_t get() const { return stream_; }

    /// Waits at its end for all that was queued, so that a failed call leaves no copy behind that is still to run.
    struct Waiting {
        const Stream &stream;
        ~Waiting() { static_cast<void>(cudaStreamSynchronize(stream.get())); }
    };

  private:
    cudaStream_t stream_ = nullptr;
};

/// Keeps the first error that TensorRT reports, and prints nothing.
class EngineLogger : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char *text) noexcept override {
        if (severity == Severity::kERROR || severity == Severity::kINTERNAL_ERROR) {
            try {
                const std::lock_guard<std::mutex> guard(mutex_);
                said_ = said_.empty() && text ? text : said_;
            } catch (...) { // out of memory: the error will have no reason
            }
        }
    }

    /// What was reported, which is then forgotten.
    std::string take() {
        const std::lock_guard<std::mutex> guard(mutex_);
        const std::string text = first_line(said_);
        said_.clear();
        return text;
    }

  private:
    std::mutex mutex_;
    std::string said_;
};

/// The bytes of an engine's file.
inline std::vector<char> engine_bytes(const std::filesystem::path &path) {
    std::error_code error;
    const auto size = std::filesystem::is_regular_file(path, error) ? std::filesystem::file_size(path, error) : 0;
    if (error || size == 0) {
        throw BundleError("there is no engine " + path_text(path) +
                          ": build it of fusioncam.onnx with trtexec or tensorrt_rtx");
    }
    std::vector<char> data(static_cast<std::size_t>(size));
    std::ifstream file(path, std::ios::binary);
    if (!file.read(data.data(), static_cast<std::streamsize>(size))) {
        throw BundleError("cannot read " + path_text(path) + ": check its permissions");
    }
    return data;
}

/// An engine on one GPU, with the buffers of its inputs and outputs.
class TensorRTEngine {
  public:
    /// Loads an engine onto the thread's current GPU; throws BundleError where it is not that of the manifest's graph.
    TensorRTEngine(const std::filesystem::path &path, const Manifest &manifest)
        : manifest_(manifest), inputs_(inputs_of(manifest)), outputs_(outputs_of(manifest)) {
        check_cuda(cudaGetDevice(&device_), "find a GPU");
        const std::string name = path_text(path);
        const std::vector<char> data = engine_bytes(path);
        runtime_.reset(nvinfer1::createInferRuntime(logger_));
        if (!runtime_) {
            throw Error("TensorRT's library cannot start: " + logger_.take() +
                        "; link the library that the headers of this program belong to");
        }
        engine_.reset(runtime_->deserializeCudaEngine(data.data(), data.size()));
        if (!engine_) {
            throw BundleError("TensorRT cannot load " + name + ": " + logger_.take() +
                              "; build it again with this version of TensorRT, for this GPU");
        }
        const std::string start = name + " is no engine of this bundle's " + SINGLE_GRAPH;
        const std::string remedy = "build it of that file, with fixed shapes";
        const Interface found = described();
        check_interface(found, manifest_, start, remedy);
        if (found.size() != interface_of(manifest_).size()) {
            throw BundleError(start + ": it has " + std::to_string(found.size()) + " inputs and outputs; " + remedy);
        }
        context_.reset(engine_->createExecutionContext());
        if (!context_) {
            throw Error("TensorRT cannot prepare " + name + ": " + logger_.take() +
                        "; free memory on the GPU, or export with a smaller --chunk");
        }
        for (const auto *tensors : {&inputs_, &outputs_}) {
            for (const Tensor &tensor : *tensors) {
                add(tensor);
            }
        }
    }

    const Manifest &manifest() const { return manifest_; }

    /// All outputs by name, for a preprocessed input of C * H * W finite values and a target that was checked.
    ///
    /// One call runs at a time, the others wait: the engine has one set of buffers.
    Outputs run(const float *x, const TargetTensors &target) const {
        const std::lock_guard<std::mutex> guard(mutex_);
        const OnDevice device(device_);
        Outputs result;
        const Stream::Waiting waiting{stream_};
        const cudaStream_t stream = stream_.get();
        const auto copy = [stream](void *to, const void *from, std::size_t bytes, cudaMemcpyKind kind) {
            check_cuda(cudaMemcpyAsync(to, from, bytes, kind, stream), "copy to or from the GPU");
        };
        for (const Tensor &tensor : inputs_) {
            copy(at(tensor.name), tensor.name == "image" ? x : target.at(tensor.name), tensor.bytes(),
                 cudaMemcpyHostToDevice);
        }
        if (!context_->enqueueV3(stream)) {
            throw Error("TensorRT cannot run the engine: " + logger_.take() +
                        "; build it again, or free memory on the GPU");
        }
        for (const Tensor &tensor : outputs_) {
            copy(result.room(tensor), at(tensor.name), tensor.bytes(), cudaMemcpyDeviceToHost);
        }
        check_cuda(cudaStreamSynchronize(stream), "run the engine");
        return result;
    }

  private:
    void *at(const std::string &name) const { return buffers_.at(name)->get(); }

    /// Makes the buffer of an input or output, where the engine will read or write in every run.
    void add(const Tensor &tensor) {
        const std::string &name = tensor.name;
        buffers_[name] = std::make_unique<DeviceMemory>(tensor.bytes());
        if (!context_->setTensorAddress(name.c_str(), at(name))) {
            throw Error("TensorRT refuses the buffer of " + name + ": " + logger_.take() + "; build the engine again");
        }
    }

    /// The inputs and outputs that the engine has.
    Interface described() const {
        Interface found;
        for (std::int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
            const char *name = engine_->getIOTensorName(i);
            const bool is_input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
            found[(is_input ? "input " : "output ") + std::string(name)] = described(name);
        }
        return found;
    }

    std::string described(const char *name) const {
        const nvinfer1::DataType type = engine_->getTensorDataType(name);
        const nvinfer1::Dims shape = engine_->getTensorShape(name);
        const bool is_plain = engine_->getTensorFormat(name) == nvinfer1::TensorFormat::kLINEAR &&
                              engine_->getTensorLocation(name) == nvinfer1::TensorLocation::kDEVICE;
        return (is_plain ? "" : "of another layout, ") +
               std::string(type == nvinfer1::DataType::kFLOAT   ? "float32 "
                           : type == nvinfer1::DataType::kINT64 ? "int64 "
                           : type == nvinfer1::DataType::kBOOL  ? "bool "
                                                                : "of another type ") +
               shape_text(std::vector<std::int64_t>(shape.d, shape.d + (shape.nbDims < 0 ? 0 : shape.nbDims)));
    }

    // In the order in which each needs those above; they end in the other.
    Manifest manifest_;
    std::vector<Tensor> inputs_, outputs_;
    int device_ = 0;
    mutable EngineLogger logger_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    Stream stream_;
    std::map<std::string, std::unique_ptr<DeviceMemory>> buffers_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    mutable std::mutex mutex_;
};

} // namespace detail
} // namespace fusioncam

#endif
