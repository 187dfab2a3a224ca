// What a kernel may use of CUDA, for the host's compiler; included ahead of the unchanged kernels.
#pragma once

#include <stddef.h>

#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(threads)
// One block runs at a time, so its shared memory can be static: in a section of its own, to be poisoned as a whole.
#define __shared__ static __attribute__((section("block_shared")))
#define SHIM_TEXT(x) #x
#define SHIM_LINE(x) SHIM_TEXT(x)
#define __syncthreads() shim_barrier(__FILE__ ":" SHIM_LINE(__LINE__))

struct ShimIndex {
    unsigned x, y, z;
};
extern ShimIndex threadIdx, blockIdx, blockDim, gridDim;

void shim_barrier(const char *place);
int atomicAdd(int *address, int value);

extern "C" double exp(double);
extern "C" float expf(float), rintf(float);
inline float exp(float value) { return expf(value); }
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return b > a ? b : a; }

template <class To, class From> To shim_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float value) { return shim_bits<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return shim_bits<float>(bits); }
inline int __float_as_int(float value) { return shim_bits<int>(value); }
inline float __int_as_float(int bits) { return shim_bits<float>(bits); }
inline double __longlong_as_double(long long bits) { return shim_bits<double>(bits); }
inline long long __double_as_longlong(double value) { return shim_bits<long long>(value); }

// A kernel by name: its parameters' types, and a call with pointers to its arguments.
template <class P> constexpr char shim_type()
{
    return std::is_pointer_v<P> ? 'p' : std::is_same_v<P, int> ? 'i' : std::is_same_v<P, float> ? 'f' :
        std::is_same_v<P, double> ? 'd' : '?';
}
template <class... P> const char *shim_types(void (*)(P...))
{
    static const char types[] = {shim_type<P>()..., 0};
    return types;
}
template <class... P, size_t... I> void shim_call(void (*kernel)(P...), void **arguments, std::index_sequence<I...>)
{
    kernel(*static_cast<P *>(arguments[I])...);
}
template <class... P> void shim_call(void (*kernel)(P...), void **arguments)
{
    shim_call(kernel, arguments, std::index_sequence_for<P...>());
}
#define SHIM_KERNEL(NAME)                                                                                              \
    extern "C" const char *types_##NAME() { return shim_types(NAME); }                                                 \
    extern "C" void call_##NAME(void **arguments) { shim_call(NAME, arguments); }
