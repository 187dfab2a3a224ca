// The part of TensorRT's C++ API that fusioncam/tensorrt_engine.hpp uses, declared for the tests, which implement it in
// nvinfer.cpp. Names and meanings are those of TensorRT 10 and 11; layouts are not. No program can link it to TensorRT.
#ifndef TESTS_NV_INFER_RUNTIME_H
#define TESTS_NV_INFER_RUNTIME_H

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace nvinfer1 {

enum class DataType : std::int32_t { kFLOAT = 0, kHALF = 1, kINT32 = 3, kBOOL = 4, kINT64 = 8 };
enum class TensorFormat : std::int32_t { kLINEAR = 0, kCHW32 = 5 };
enum class TensorIOMode : std::int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class TensorLocation : std::int32_t { kDEVICE = 0, kHOST = 1 };

struct Dims {
    std::int32_t nbDims;
    std::int64_t d[8];
};

class ILogger {
  public:
    enum class Severity : std::int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, const char *text) noexcept = 0;
    virtual ~ILogger() = default;
};

class IExecutionContext {
  public:
    virtual ~IExecutionContext() noexcept = default;
    virtual bool setTensorAddress(const char *name, void *address) noexcept = 0;
    virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
};

enum class ExecutionContextAllocationStrategy : std::int32_t { kSTATIC = 0 };

class ICudaEngine {
  public:
    virtual ~ICudaEngine() noexcept = default;
    virtual std::int32_t getNbIOTensors() const noexcept = 0;
    virtual const char *getIOTensorName(std::int32_t index) const noexcept = 0;
    virtual TensorIOMode getTensorIOMode(const char *name) const noexcept = 0;
    virtual DataType getTensorDataType(const char *name) const noexcept = 0;
    virtual Dims getTensorShape(const char *name) const noexcept = 0;
    virtual TensorFormat getTensorFormat(const char *name) const noexcept = 0;
    virtual TensorLocation getTensorLocation(const char *name) const noexcept = 0;
    virtual IExecutionContext *createExecutionContext(
        ExecutionContextAllocationStrategy strategy = ExecutionContextAllocationStrategy::kSTATIC) noexcept = 0;
};

class IRuntime {
  public:
    virtual ~IRuntime() noexcept = default;
    virtual ICudaEngine *deserializeCudaEngine(const void *data, std::size_t size) noexcept = 0;
};

IRuntime *createInferRuntime(ILogger &logger) noexcept;

} // namespace nvinfer1

#endif
