// A stand-in for TensorRT whose engines are ONNX files, run by onnxruntime on the CPU. The file of an engine is text:
// "fake engine", the path of the graph, and lines that say what is odd about the engine ("type logits").
#include <NvInferRuntime.h>
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "fake.hpp"

namespace {

using namespace nvinfer1;

/// An input or output.
struct Tensor {
    TensorIOMode mode;
    DataType type;
    TensorFormat format;
    TensorLocation location;
    Dims shape;

    std::size_t bytes() const {
        std::size_t count = type == DataType::kINT64 ? 8 : type == DataType::kBOOL ? 1 : 4;
        for (std::int32_t i = 0; i < shape.nbDims; ++i) {
            count *= static_cast<std::size_t>(shape.d[i]);
        }
        return count;
    }
};

/// What a fake engine is made of.
struct Model {
    ILogger *logger;
    Ort::Env env{ORT_LOGGING_LEVEL_FATAL, "fake"};
    Ort::Session session{nullptr};
    std::vector<std::string> names;
    std::map<std::string, Tensor> tensors;
};

void report(ILogger &logger, const char *function) {
    logger.log(ILogger::Severity::kWARNING, "this is no error");
    logger.log(ILogger::Severity::kERROR, (std::string(function) + " was told to fail\nat length").c_str());
    logger.log(ILogger::Severity::kINTERNAL_ERROR, "what follows from that");
}

bool fails(ILogger &logger, const char *function) {
    const bool result = fake::fails(function);
    if (result) {
        report(logger, function);
    }
    return result;
}

class Context : public IExecutionContext {
  public:
    explicit Context(std::shared_ptr<Model> model) : model_(std::move(model)) {}

    bool setTensorAddress(const char *name, void *address) noexcept override {
        addresses_[name] = address;
        return model_->tensors.count(name) && !fails(*model_->logger, "setTensorAddress");
    }

    bool enqueueV3(cudaStream_t stream) noexcept override {
        int device = -1;
        cudaGetDevice(&device);
        for (const auto &[name, tensor] : model_->tensors) {
            if (!fake::is_memory(addresses_[name], tensor.bytes(), stream)) {
                return false;
            }
        }
        if (device != home_ || fails(*model_->logger, "enqueueV3")) {
            return false;
        }
        fake::queue(stream, [this] { return !fake::fails("kernel") && run(); });
        return true;
    }

  private:
    bool run() noexcept try {
        const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        std::vector<Ort::Value> inputs, outputs;
        std::vector<const char *> in, out;
        for (const std::string &name : model_->names) {
            const Tensor &tensor = model_->tensors.at(name);
            const auto type = tensor.type == DataType::kINT64  ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64
                              : tensor.type == DataType::kBOOL ? ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL
                                                               : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
            const bool is_input = tensor.mode == TensorIOMode::kINPUT;
            (is_input ? in : out).push_back(name.c_str());
            (is_input ? inputs : outputs)
                .push_back(Ort::Value::CreateTensor(memory, addresses_.at(name), tensor.bytes(), tensor.shape.d,
                                                    static_cast<std::size_t>(tensor.shape.nbDims), type));
        }
        model_->session.Run(Ort::RunOptions{nullptr}, in.data(), inputs.data(), in.size(), out.data(), outputs.data(),
                            out.size());
        return true;
    } catch (const Ort::Exception &) {
        return false;
    }

    static int device_now() {
        int device = -1;
        cudaGetDevice(&device);
        return device;
    }

    std::shared_ptr<Model> model_;
    std::map<std::string, void *> addresses_;
    int home_ = device_now();
};

class Engine : public ICudaEngine {
  public:
    explicit Engine(std::shared_ptr<Model> model) : model_(std::move(model)) {}

    std::int32_t getNbIOTensors() const noexcept override { return static_cast<std::int32_t>(model_->names.size()); }
    const char *getIOTensorName(std::int32_t index) const noexcept override {
        return model_->names.at(static_cast<std::size_t>(index)).c_str();
    }
    TensorIOMode getTensorIOMode(const char *name) const noexcept override { return model_->tensors.at(name).mode; }
    DataType getTensorDataType(const char *name) const noexcept override { return model_->tensors.at(name).type; }
    Dims getTensorShape(const char *name) const noexcept override { return model_->tensors.at(name).shape; }
    TensorFormat getTensorFormat(const char *name) const noexcept override { return model_->tensors.at(name).format; }
    TensorLocation getTensorLocation(const char *name) const noexcept override {
        return model_->tensors.at(name).location;
    }
    IExecutionContext *createExecutionContext(ExecutionContextAllocationStrategy) noexcept override {
        return fails(*model_->logger, "createExecutionContext") ? nullptr : new Context(model_);
    }

  private:
    std::shared_ptr<Model> model_;
};

void add(Model &model, const std::string &name, TensorIOMode mode, const Ort::TypeInfo &type) {
    const auto info = type.GetTensorTypeAndShapeInfo();
    const std::vector<std::int64_t> shape = info.GetShape();
    Dims dims{static_cast<std::int32_t>(shape.size()), {}};
    std::copy(shape.begin(), shape.end(), dims.d);
    const auto element = info.GetElementType();
    const DataType kind = element == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64  ? DataType::kINT64
                          : element == ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL ? DataType::kBOOL
                                                                          : DataType::kFLOAT;
    model.names.push_back(name);
    model.tensors[name] = {mode, kind, TensorFormat::kLINEAR, TensorLocation::kDEVICE, dims};
}

/// Makes a tensor as a line of the engine's file says.
void change(Model &model, const std::string &what, const std::string &name) {
    if (what == "more") {
        model.names.push_back(name);
        model.tensors[name] = model.tensors.at("logits");
        return;
    }
    Tensor &tensor = model.tensors.at(name);
    if (what == "type") {
        tensor.type = tensor.type == DataType::kINT64 ? DataType::kINT32 : DataType::kHALF;
    } else if (what == "format") {
        tensor.format = TensorFormat::kCHW32;
    } else if (what == "location") {
        tensor.location = TensorLocation::kHOST;
    } else if (what == "shape") {
        tensor.shape.d[0] = -1;
    } else if (what == "mode") {
        tensor.mode = TensorIOMode::kOUTPUT;
    } else if (what == "without") {
        model.names.erase(std::find(model.names.begin(), model.names.end(), name));
        model.tensors.erase(name);
    }
}

class Runtime : public IRuntime {
  public:
    explicit Runtime(ILogger &logger) : logger_(logger) {}

    ICudaEngine *deserializeCudaEngine(const void *data, std::size_t size) noexcept override try {
        std::istringstream file(std::string(static_cast<const char *>(data), size));
        std::string head, graph, what, name;
        if (!std::getline(file, head) || head != "fake engine" || fails(logger_, "deserializeCudaEngine")) {
            report(logger_, "deserializeCudaEngine");
            return nullptr;
        }
        std::getline(file, graph);
        const auto model = std::make_shared<Model>();
        model->logger = &logger_;
        model->session = Ort::Session(model->env, graph.c_str(), Ort::SessionOptions{});
        Ort::AllocatorWithDefaultOptions allocator;
        for (std::size_t i = 0; i < model->session.GetInputCount(); ++i) {
            add(*model, model->session.GetInputNameAllocated(i, allocator).get(), TensorIOMode::kINPUT,
                model->session.GetInputTypeInfo(i));
        }
        for (std::size_t i = 0; i < model->session.GetOutputCount(); ++i) {
            add(*model, model->session.GetOutputNameAllocated(i, allocator).get(), TensorIOMode::kOUTPUT,
                model->session.GetOutputTypeInfo(i));
        }
        while (file >> what >> name) {
            change(*model, what, name);
        }
        return new Engine(model);
    } catch (const Ort::Exception &error) {
        logger_.log(ILogger::Severity::kERROR, error.what());
        return nullptr;
    }

  private:
    ILogger &logger_;
};

} // namespace

namespace nvinfer1 {

IRuntime *createInferRuntime(ILogger &logger) noexcept {
    return fails(logger, "createInferRuntime") ? nullptr : new Runtime(logger);
}

} // namespace nvinfer1
