// What the threads of one block do together. Sums are taken in a fixed order: every run gives the same bits.
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
