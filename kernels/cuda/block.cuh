// Operations of all threads of a block. Sums are taken in a fixed order: every run gives the same bits.
#pragma once

#include "arithmetic.cuh"

struct Sum {
    template <class T> INLINE T operator()(T a, T b) const { return a + b; }
};
struct Least {
    template <class T> INLINE T operator()(T a, T b) const { return lesser(a, b); }
};
struct Greatest {
    template <class T> INLINE T operator()(T a, T b) const { return greater(a, b); }
};

// All threads get `join` over what each of them brings. `room` holds one T per thread; blockDim.x is a power of two.
template <class T, class Join> INLINE T together(T mine, T *room, Join join)
{
    room[threadIdx.x] = mine;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) room[threadIdx.x] = join(room[threadIdx.x], room[threadIdx.x + half]);
        __syncthreads();
    }
    const T all = room[0];
    __syncthreads(); // or the next use would overwrite room[0] before all have read it
    return all;
}

// Neighbouring values, moved in one access.
template <class T, int COUNT> struct alignas(COUNT * sizeof(T)) Pack {
    T values[COUNT];
};

INLINE bool aligned(const void *pointer) { return reinterpret_cast<size_t>(pointer) % 16 == 0; }

// COUNT neighbouring places of an array of floats.
template <int COUNT> struct Places {
    static INLINE Pack<float, COUNT> load(const float *from)
    {
        return *reinterpret_cast<const Pack<float, COUNT> *>(from);
    }
    static INLINE void store(float *to, const Pack<float, COUNT> &values)
    {
        *reinterpret_cast<Pack<float, COUNT> *>(to) = values;
    }
};

// The threads of a block visit all P places of some arrays, four at a time where these are aligned. A thread gets the
// same places in every sweep: what it has written, it may read without a barrier.
template <class Visit> INLINE void sweep(int P, bool by_four, Visit visit)
{
    if (by_four)
        for (int p = 4 * threadIdx.x; p < P; p += 4 * blockDim.x) visit(Places<4>(), p);
    else
        for (int p = threadIdx.x; p < P; p += blockDim.x) visit(Places<1>(), p);
}
