// The arithmetic of one pixel. Plain C++ but for the function qualifiers.
#pragma once

#define INLINE __device__ __forceinline__

// Bilinear interpolation along one axis: (1 - weight) in[low] + weight in[high].
struct Tap {
    int low, high;
    float weight;
};

// Output i of `large` from `small` inputs: half-pixel centres, edges clamped. The place (i + 0.5) small / large - 0.5
// is taken apart in whole numbers, so that only the weight is rounded, once.
INLINE Tap tap(int i, int small, int large)
{
    const int place = (2 * i + 1) * small - large;
    if (place < 0) return {0, 0, 0};
    const int low = place / (2 * large);
    return {low, low + 1 < small ? low + 1 : low, float(place % (2 * large)) / float(2 * large)};
}

template <class T> INLINE T between(T a, T b, T weight) { return a * (1 - weight) + b * weight; }

// One point of up(map), for a map of width w.
template <class T> INLINE T interpolate(const float *map, int w, Tap row, Tap column)
{
    const float *upper = map + row.low * w, *lower = map + row.high * w;
    const T weight = column.weight;
    return between<T>(
        between<T>(upper[column.low], upper[column.high], weight),
        between<T>(lower[column.low], lower[column.high], weight), T(row.weight));
}

// NaN wins, as in NumPy.
template <class T> INLINE T lesser(T a, T b) { return b < a || b != b ? b : a; }
template <class T> INLINE T greater(T a, T b) { return b > a || b != b ? b : a; }

INLINE double magnitude(double a) { return a < 0 ? -a : a; }

// Whether a map of these extremes is constant but for rounding.
INLINE bool is_constant(double low, double high)
{
    return high - low <= 1e-6 * greater(magnitude(low), magnitude(high)) + 1e-12;
}

// Step 3 of Fusion-CAM: two confidence gains as shares of their sum; equal ones where that is about zero.
struct Shares {
    double first, second;
    int flags;
};
enum { DEGENERATE = 1, MIXED = 2 };

INLINE Shares contributions(double first, double second)
{
    const double total = first + second;
    if (magnitude(total) < 1e-6) return {0.5, 0.5, DEGENERATE};
    return {first / (total + 1e-8), second / (total + 1e-8), first * second < 0 ? MIXED : 0};
}

// Step 4 of Fusion-CAM, before unit: the larger of two values where they agree, their mean where they differ.
INLINE float blend(float one, float two)
{
    const float difference = one > two ? one - two : two - one;
    const float similarity = difference < 1 ? 1 - difference : 0;
    return similarity * greater(one, two) + (1 - similarity) * (one + two) * 0.5f;
}

// Without this the compiler computes all that follows from the value before the loop, for every pixel of a thread, and
// the kernel needs up to three times the registers.
INLINE void keep_in_loop(int &value) { asm volatile("" : "+r"(value)); }

// The bits of a float16, rounded to nearest even; without cuda_fp16.h, which NVRTC may not find.
INLINE unsigned short half_bits(float value)
{
    unsigned short bits;
#ifdef __CUDACC__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    const _Float16 half = _Float16(value);
    __builtin_memcpy(&bits, &half, sizeof bits);
#endif
    return bits;
}

// A number whose unsigned order is the order of the floats.
INLINE unsigned ordered(float value)
{
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

INLINE float from_ordered(unsigned key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}
