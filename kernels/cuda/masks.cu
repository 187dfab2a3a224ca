// Masks: A (K, h, w) and an image (3, H, W) to masked pictures (B, 3, H, W), with no full-size mask in between.
#include "block.cuh"

enum { LIVE, ZERO, CONSTANT, BROKEN };

// Each map shifted and scaled so that unit(up(map)) = up(scaled). Upsampling is linear between neighbouring inputs, so
// its extremes are among the points that rows x columns name: at most (2h + 2)(2w + 2), not H W.
// With `positive`, unit(relu(up(map))) = relu(up(scaled)) instead. One block per map.
extern "C" __global__ void __launch_bounds__(128) normalize_maps(
    const float *__restrict__ maps, const int *__restrict__ rows, const int *__restrict__ columns,
    float *__restrict__ scaled, int *__restrict__ kinds, int K, int h, int w, int R, int C, int H, int W, int positive)
{
    __shared__ double room[128];
    const size_t start = size_t(blockIdx.x) * h * w;
    const float *map = maps + start;
    double low = __longlong_as_double(0x7ff0000000000000ll), high = -low, most = 0;
    for (int p = threadIdx.x; p < R * C; p += blockDim.x) {
        const double value = interpolate<double>(map, w, tap(rows[p / C], h, H), tap(columns[p % C], w, W));
        low = lesser(low, value);
        high = greater(high, value);
    }
    for (int p = threadIdx.x; p < h * w; p += blockDim.x) most = greater(most, magnitude(map[p]));
    low = together(low, room, Least());
    high = together(high, room, Greatest());
    most = together(most, room, Greatest());
    if (positive) {
        low = greater(low, 0.0);
        high = greater(high, 0.0);
    }
    const bool finite = most < __longlong_as_double(0x7ff0000000000000ll), flat = is_constant(low, high);
    const double scale = !finite ? most * 0 : flat ? 0 : 1 / (high - low); // NaN for a map that is not finite
    for (int p = threadIdx.x; p < h * w; p += blockDim.x) scaled[start + p] = float((map[p] - low) * scale);
    if (threadIdx.x == 0) kinds[blockIdx.x] = !finite ? BROKEN : most == 0 ? ZERO : flat ? CONSTANT : LIVE;
}

// 16 bytes of a row of pixels: float, or float16 as its bits.
template <class Pixel> using Sixteen = Pack<Pixel, 16 / sizeof(Pixel)>;

template <class Pixel> INLINE Pixel rounded(float value);
template <> INLINE float rounded<float>(float value) { return value; }
template <> INLINE unsigned short rounded<unsigned short>(float value) { return half_bits(value); }

INLINE int blocks_of(int count, int size) { return (count + size - 1) / size; }

// Picture b is the image masked with map channels[b]; -1 gives a blank picture.
// A thread makes COUNT pixels of a row, of every gridDim.y-th picture. TOGETHER: next to each other, stored at once;
// else 32 apart, so that the 32 threads of a warp still write next to each other.
template <class Pixel, bool TOGETHER>
INLINE void mask_row(
    const float *__restrict__ maps, const int *__restrict__ channels, const float *__restrict__ image,
    Pixel *__restrict__ out, int B, int h, int w, int H, int W)
{
    constexpr int COUNT = 16 / sizeof(Pixel), STEP = TOGETHER ? 1 : 32;
    const int thread = blockIdx.x * blockDim.x + threadIdx.x;
    const int threads_per_row = TOGETHER ? W / COUNT : blocks_of(W, 32 * COUNT) * 32;
    const int y = thread / threads_per_row, place = thread % threads_per_row;
    if (y >= H) return;
    const int first = TOGETHER ? place * COUNT : place / 32 * 32 * COUNT + place % 32;
    const size_t plane = size_t(H) * W, at = size_t(y) * W + first;

    // Along the row, `tap` is stepped in whole numbers: `rest` of 2 W on the way from column `low` to the next one.
    const Tap row = tap(y, h, H);
    const int whole = 2 * W, start = (2 * first + 1) * w - W;
    const int first_low = start < 0 ? -1 : start / whole, first_rest = start - first_low * whole;
    const int step_low = 2 * w * STEP / whole, step_rest = 2 * w * STEP % whole;
    const float unit = 1.f / whole;

    for (int b = blockIdx.y; b < B; b += gridDim.y) {
        const int channel = channels[b];
        float mask[COUNT] = {};
        if (channel >= 0) {
            const float *upper = maps + (size_t(channel) * h + row.low) * w;
            const float *lower = maps + (size_t(channel) * h + row.high) * w;
            int low = first_low, rest = first_rest, seen = -2;
            keep_in_loop(low);
            keep_in_loop(rest);
            float left = 0, right = 0;
#pragma unroll
            for (int j = 0; j < COUNT; j++) {
                // Neighbouring pixels mostly lie between the same two columns of the map.
                if (low != seen && low < w) {
                    const int one = max(low, 0), other = min(low + 1, w - 1);
                    left = between(upper[one], lower[one], row.weight);
                    right = between(upper[other], lower[other], row.weight);
                    seen = low;
                }
                mask[j] = between(left, right, rest * unit);
                low += step_low;
                rest += step_rest;
                if (rest >= whole) {
                    rest -= whole;
                    low++;
                }
            }
        }
        // The image is read anew for every picture: it stays in the L1 cache, and registers are scarcer.
        int first_plane = 0;
        keep_in_loop(first_plane);
#pragma unroll
        for (int c = 0; c < 3; c++) {
            const float *source = image + (size_t(first_plane) + c) * plane + at;
            Pixel *target = out + (size_t(b) * 3 + c) * plane + at;
            if (TOGETHER) {
                Sixteen<Pixel> made;
#pragma unroll
                for (int j = 0; j < COUNT; j += 4) {
                    const Sixteen<float> pixels = *reinterpret_cast<const Sixteen<float> *>(source + j);
#pragma unroll
                    for (int i = 0; i < 4; i++) made.values[j + i] = rounded<Pixel>(mask[j + i] * pixels.values[i]);
                }
                *reinterpret_cast<Sixteen<Pixel> *>(target) = made;
            } else {
#pragma unroll
                for (int j = 0; j < COUNT; j++)
                    if (first + j * STEP < W) target[j * STEP] = rounded<Pixel>(mask[j] * source[j * STEP]);
            }
        }
    }
}

#define MASK_PICTURES(NAME, PIXEL)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) NAME(                                                            \
        const float *__restrict__ maps, const int *__restrict__ channels, const float *__restrict__ image,             \
        PIXEL *__restrict__ out, int B, int h, int w, int H, int W)                                                    \
    {                                                                                                                  \
        if (W % (16 / sizeof(PIXEL)) == 0 && aligned(image) && aligned(out))                                          \
            mask_row<PIXEL, true>(maps, channels, image, out, B, h, w, H, W);                                          \
        else                                                                                                           \
            mask_row<PIXEL, false>(maps, channels, image, out, B, h, w, H, W);                                         \
    }

MASK_PICTURES(mask_pictures_float, float)
MASK_PICTURES(mask_pictures_half, unsigned short)

// relu(up(map)) at full size, for maps that `normalize_maps` has scaled.
extern "C" __global__ void __launch_bounds__(256) expand_maps(
    const float *__restrict__ scaled, float *__restrict__ out, int N, int h, int w, int H, int W)
{
    const int P = H * W, first = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (first >= P) return;
    const float *map = scaled + size_t(blockIdx.y) * h * w;
    Pack<float, 4> made;
    for (int i = 0; i < 4; i++) {
        const int p = min(first + i, P - 1);
        made.values[i] = greater(interpolate<float>(map, w, tap(p / W, h, H), tap(p % W, w, W)), 0.f);
    }
    out += size_t(blockIdx.y) * P + first;
    if (P % 4 == 0 && aligned(out)) Places<4>::store(out, made);
    else
        for (int i = 0; i < 4 && first + i < P; i++) out[i] = made.values[i];
}
