// A map laid over a photo, as bytes ready to encode.
#include "block.cuh"

// Rounded to the nearest whole number, halves to even.
INLINE float rounded(float value) { return rintf(value); }

// photos (N, P, 3) and maps (N, P) to pictures (N, P, 3). The photo is muted first; opacity grows with the map.
extern "C" __global__ void __launch_bounds__(256) overlay_maps(
    const unsigned char *__restrict__ photos, const float *__restrict__ maps,
    const unsigned char *__restrict__ colors, unsigned char *__restrict__ out, int N, int P, float opacity)
{
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= P) return;
    const size_t at = size_t(blockIdx.y) * P + p;
    const float given = maps[at];
    const float value = given > 0 ? (given < 1 ? given : 1) : 0; // NaN counts as 0
    const unsigned char *photo = photos + 3 * at, *color = colors + 3 * int(rounded(value * 255));
    // OpenCV's grey, in 15 bits.
    const int grey = (photo[0] * 9798 + photo[1] * 19235 + photo[2] * 3735 + (1 << 14)) >> 15;
    const float alpha = opacity * (2.5f * value < 1 ? 2.5f * value : 1);
    for (int c = 0; c < 3; c++) {
        const int muted = (7 * photo[c] + 13 * grey + 10) / 20;
        out[3 * at + c] = static_cast<unsigned char>(rounded(muted + alpha * (color[c] - muted)));
    }
}
