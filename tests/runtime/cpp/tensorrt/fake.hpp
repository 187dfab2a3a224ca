// What the stand-ins for CUDA and TensorRT share with each other and with the driver.
#ifndef FAKE_HPP
#define FAKE_HPP

#include <cstddef>
#include <functional>
#include <string>

#include <cuda_runtime_api.h>

namespace fake {

/// Lets a function fail from its call number `after` on, counted from now and from 0; an empty name lets all succeed.
void fail(const std::string &function, int after);

/// Whether this call of a function shall fail.
bool fails(const std::string &function);

/// Queues work on a stream; nothing runs before the stream is waited for. Work gives whether it succeeded.
void queue(cudaStream_t stream, std::function<bool()> work);

/// Whether memory of at least so many bytes was allocated here, on the GPU of the stream.
bool is_memory(const void *pointer, std::size_t bytes, cudaStream_t stream);

/// How much is alive: allocations and streams.
std::size_t alive();

} // namespace fake

#endif
