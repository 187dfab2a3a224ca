// A stand-in for CUDA's runtime with two GPUs. Copies and work wait in their stream until the program waits for it, so
// that results which are read too early, or inputs which are freed too early, are seen by the tests and the sanitizers.
#include "fake.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

struct CUstream_st {
    int device;
    std::vector<std::function<bool()>> work;
};

namespace {

constexpr int GPUS = 2;
constexpr unsigned char POISON = 0xff; // of floats: NaN

struct Allocation {
    std::size_t bytes;
    int device;
};

std::recursive_mutex mutex;
std::map<const void *, Allocation> allocations;
std::size_t streams = 0;
std::string failing;
int calls_left = 0;
thread_local int current = 0;

cudaError_t status(bool is_right, const char *function) {
    return is_right && !fake::fails(function) ? cudaSuccess : cudaErrorInvalidValue;
}

} // namespace

namespace fake {

void fail(const std::string &function, int after) {
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    failing = function;
    calls_left = after;
}

bool fails(const std::string &function) {
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    return function == failing && calls_left-- <= 0;
}

void queue(cudaStream_t stream, std::function<bool()> work) {
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    stream->work.push_back(std::move(work));
}

bool is_memory(const void *pointer, std::size_t bytes, cudaStream_t stream) {
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    const auto found = allocations.find(pointer);
    return found != allocations.end() && bytes <= found->second.bytes && found->second.device == stream->device;
}

std::size_t alive() {
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    return allocations.size() + streams;
}

} // namespace fake

extern "C" {

const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorLaunchFailure ? "unspecified launch failure" : "invalid argument";
}

cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return status(true, "cudaGetDevice");
}

cudaError_t cudaSetDevice(int device) {
    const cudaError_t result = status(device >= 0 && device < GPUS, "cudaSetDevice");
    current = result == cudaSuccess ? device : current;
    return result;
}

cudaError_t cudaMalloc(void **pointer, std::size_t bytes) {
    if (status(bytes > 0, "cudaMalloc") != cudaSuccess) {
        return cudaErrorInvalidValue;
    }
    *pointer = std::memset(std::malloc(bytes), POISON, bytes);
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    allocations[*pointer] = {bytes, current};
    return cudaSuccess;
}

cudaError_t cudaFree(void *pointer) {
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    const bool is_known = !pointer || allocations.erase(pointer);
    std::free(is_known ? pointer : nullptr);
    return status(is_known, "cudaFree");
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags) {
    if (status(flags == cudaStreamNonBlocking, "cudaStreamCreateWithFlags") != cudaSuccess) {
        return cudaErrorInvalidValue;
    }
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    *stream = new CUstream_st{current, {}};
    ++streams;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    delete stream;
    --streams;
    return status(true, "cudaStreamDestroy");
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    const bool is_right = fake::is_memory(kind == cudaMemcpyHostToDevice ? to : from, bytes, stream);
    if (status(is_right && current == stream->device, "cudaMemcpyAsync") != cudaSuccess) {
        return cudaErrorInvalidValue;
    }
    // Long enough for other threads to come between: calls that do not take turns get mixed up.
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    fake::queue(stream, [=] { return std::memcpy(to, from, bytes) == to; });
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const std::lock_guard<std::recursive_mutex> guard(mutex);
    bool is_right = true;
    for (const auto &work : stream->work) {
        is_right = is_right && work();
    }
    stream->work.clear();
    if (!is_right) {
        return cudaErrorLaunchFailure;
    }
    return status(true, "cudaStreamSynchronize");
}
}
