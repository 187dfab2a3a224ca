// Steps 1, 3 and 4 of Fusion-CAM on full-size maps (N, H W), one block per map.
#include "block.cuh"

enum { THREADS = 1024, BINS = 256, COPIES = 32 };

INLINE float infinity() { return __int_as_float(0x7f800000); }

// out = unit(m), for one map m of P pixels, of which `make` gives some.
template <class Make> INLINE void write_unit(float *out, int P, bool by_four, float *room, Make make)
{
    float low = infinity(), high = -low;
    sweep(P, by_four, [&](auto places, int p) {
        const auto made = make(places, p);
        for (float value : made.values) {
            low = lesser(low, value);
            high = greater(high, value);
        }
        places.store(out + p, made);
    });
    low = together(low, room, Least());
    high = together(high, room, Greatest());
    const float scale = is_constant(low, high) ? 0 : 1 / (high - low);
    sweep(P, by_four, [&](auto places, int p) {
        auto made = places.load(out + p);
        for (float &value : made.values) value = (value - low) * scale;
        places.store(out + p, made);
    });
}

// The key of the value that has `rank` values before it in ascending order: a radix select, 8 bits at a time.
// Counts are exact, so the order of the atomics does not matter. A thread counts in the copy of its lane: a map that
// is mostly zeros would else have all threads wait for one counter.
INLINE unsigned key_of_rank(
    const float *map, int P, bool by_four, int rank, int (*counts)[COPIES], unsigned *found)
{
    unsigned prefix = 0, decided = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < BINS * COPIES; i += blockDim.x) counts[i / COPIES][i % COPIES] = 0;
        __syncthreads();
        sweep(P, by_four, [&](auto places, int p) {
            for (float value : places.load(map + p).values) {
                const unsigned key = ordered(value);
                if ((key & decided) == prefix) atomicAdd(&counts[key >> shift & 255][threadIdx.x % COPIES], 1);
            }
        });
        __syncthreads();
        if (threadIdx.x < BINS) { // from now on copy 0 holds the sum of all
            int sum = 0;
            for (int copy = 0; copy < COPIES; copy++) sum += counts[threadIdx.x][(copy + threadIdx.x) % COPIES];
            counts[threadIdx.x][0] = sum;
        }
        __syncthreads();
        if (threadIdx.x < BINS) {
            int before = 0;
            for (int bin = 0; bin < threadIdx.x; bin++) before += counts[bin][0];
            if (before <= rank && rank < before + counts[threadIdx.x][0]) {
                found[0] = threadIdx.x;
                found[1] = before;
            }
        }
        __syncthreads();
        prefix |= found[0] << shift;
        rank -= found[1];
        decided |= 255u << shift;
    }
    return prefix;
}

// Step 1: what lies below a percentile goes to zero, then unit. The percentile is numpy's, linear: `fraction` of the
// way from the value of rank `rank` to the next one.
extern "C" __global__ void __launch_bounds__(THREADS) denoise_maps(
    const float *__restrict__ maps, float *__restrict__ out, int N, int P, int rank, double fraction)
{
    __shared__ float room[THREADS];
    __shared__ int counts[BINS][COPIES], numbers[THREADS];
    __shared__ unsigned found[2];
    maps += size_t(blockIdx.x) * P;
    out += size_t(blockIdx.x) * P;
    const bool by_four = P % 4 == 0 && aligned(maps) && aligned(out);
    const float first = from_ordered(key_of_rank(maps, P, by_four, rank, counts, found));
    int up_to = 0;
    float next = infinity();
    sweep(P, by_four, [&](auto places, int p) {
        for (float value : places.load(maps + p).values) {
            if (value <= first) up_to++;
            else next = lesser(next, value);
        }
    });
    up_to = together(up_to, numbers, Sum());
    next = together(next, room, Least());
    const double a = first, b = up_to > rank + 1 || next == infinity() ? first : next;
    const double threshold = fraction < 0.5 ? a + (b - a) * fraction : b - (b - a) * (1 - fraction);
    write_unit(out, P, by_four, room, [&](auto places, int p) {
        auto kept = places.load(maps + p);
        for (float &value : kept.values) value = value < threshold ? 0 : value; // NaN stays, and spreads
        return kept;
    });
}

// Step 3: U = unit(bD D + bR R), where bD and bR are the shares of the gains of D and R over the blank picture.
extern "C" __global__ void __launch_bounds__(THREADS) unite_maps(
    const float *__restrict__ denoised, const float *__restrict__ region, const double *__restrict__ of_blank,
    const double *__restrict__ of_denoised, const double *__restrict__ of_region, double *__restrict__ region_share,
    int *__restrict__ flags, float *__restrict__ out, int N, int P)
{
    __shared__ float room[THREADS];
    const int n = blockIdx.x;
    const Shares shares = contributions(of_denoised[n] - of_blank[n], of_region[n] - of_blank[n]);
    denoised += size_t(n) * P;
    region += size_t(n) * P;
    out += size_t(n) * P;
    const bool by_four = P % 4 == 0 && aligned(denoised) && aligned(region) && aligned(out);
    const float one = float(shares.first), other = float(shares.second);
    write_unit(out, P, by_four, room, [&](auto places, int p) {
        auto made = places.load(denoised + p);
        const auto second = places.load(region + p);
        int i = 0;
        for (float &value : made.values) value = one * value + other * second.values[i++];
        return made;
    });
    if (threadIdx.x == 0) {
        region_share[n] = shares.second;
        flags[n] = shares.flags;
    }
}

// Step 4: F = unit(sim max(L1, L2) + (1 - sim) (L1 + L2) / 2), L1 = bU U, L2 = bR R, sim = clip(1 - |L1 - L2|, 0, 1).
// The share of the region, from unite_maps, is renormalised.
extern "C" __global__ void __launch_bounds__(THREADS) blend_maps(
    const float *__restrict__ united, const float *__restrict__ region, const double *__restrict__ of_blank,
    const double *__restrict__ of_united, const double *__restrict__ region_share, int *__restrict__ flags,
    float *__restrict__ out, int N, int P)
{
    __shared__ float room[THREADS];
    const int n = blockIdx.x;
    const Shares shares = contributions(of_united[n] - of_blank[n], region_share[n]);
    united += size_t(n) * P;
    region += size_t(n) * P;
    out += size_t(n) * P;
    const bool by_four = P % 4 == 0 && aligned(united) && aligned(region) && aligned(out);
    const float one = float(shares.first), other = float(shares.second);
    write_unit(out, P, by_four, room, [&](auto places, int p) {
        auto made = places.load(united + p);
        const auto second = places.load(region + p);
        int i = 0;
        for (float &value : made.values) value = blend(one * value, other * second.values[i++]);
        return made;
    });
    if (threadIdx.x == 0) flags[n] = shares.flags;
}
