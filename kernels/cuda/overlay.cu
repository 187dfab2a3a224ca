// A map laid over a photo, as bytes ready to encode.
#include "block.cuh"

// Rounded to the nearest whole number, halves to even.
INLINE float rounded(float value) { return rintf(value); }

// A photo (P, 3) and a map (P,) to a picture (P, 3). The photo is muted first; opacity grows with the map.
extern "C" __global__ void __launch_bounds__(256) overlay_map(
    const unsigned char *__restrict__ photo, const float *__restrict__ map, const unsigned char *__restrict__ colors,
    unsigned char *__restrict__ out, int P, float opacity)
{
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= P) return;
    const float saliency = map[p];
    const float value = saliency > 0 ? (saliency < 1 ? saliency : 1) : 0; // NaN counts as 0
    const size_t start = size_t(p) * 3;
    const unsigned char *pixel = photo + start, *color = colors + 3 * int(rounded(value * 255));
    // OpenCV's grey, in 15 bits.
    const int grey = (pixel[0] * 9798 + pixel[1] * 19235 + pixel[2] * 3735 + (1 << 14)) >> 15;
    const float alpha = opacity * (2.5f * value < 1 ? 2.5f * value : 1);
    for (int c = 0; c < 3; c++) {
        const int muted = (7 * pixel[c] + 13 * grey + 10) / 20;
        out[start + c] = static_cast<unsigned char>(rounded(muted + alpha * (color[c] - muted)));
    }
}
