// Sums over channels: Grad-CAM's weights, softmax of scores, weighted sums of maps; scores and probabilities from logits.
#include "block.cuh"

// 0, or NaN where a logit of the picture is not finite: it makes every result of these logits NaN.
template <class T> INLINE T doubt(const float *row, int C, T *room)
{
    T sum = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) sum += row[c] * 0; // 0 times infinity is NaN
    return together(sum, room, Sum());
}

// Grad-CAM's alpha: the mean of every row of (rows, count). One block per row.
extern "C" __global__ void __launch_bounds__(64) row_means(
    const float *__restrict__ values, float *__restrict__ means, int rows, int count)
{
    __shared__ double room[64];
    const float *row = values + size_t(blockIdx.x) * count;
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += row[i];
    sum = together(sum, room, Sum());
    if (threadIdx.x == 0) means[blockIdx.x] = float(sum / count);
}

// sum_k weights[n, k] maps[k]; relu of it where `positive`. A block makes 32 pixels, of one n; 16 threads share each.
extern "C" __global__ void __launch_bounds__(512) weighted_sums(
    const float *__restrict__ weights, const float *__restrict__ maps, float *__restrict__ sums, int N, int K, int P,
    int positive)
{
    __shared__ double room[512];
    const int lane = threadIdx.x % 32, part = threadIdx.x / 32, parts = blockDim.x / 32;
    const int p = blockIdx.x * 32 + lane;
    const float *weight = weights + size_t(blockIdx.y) * K;
    double sum = 0;
    // Unrolled, so that several loads are under way at a time; the order of the sum stays.
    if (p < P)
#pragma unroll 8
        for (int k = part; k < K; k += parts) sum += double(weight[k]) * maps[size_t(k) * P + p];
    room[threadIdx.x] = sum;
    __syncthreads();
    if (part > 0 || p >= P) return;
    for (int other = 1; other < parts; other++) sum += room[other * 32 + lane];
    sum += sum * 0; // infinity becomes NaN, or relu would make a zero of it
    sums[size_t(blockIdx.y) * P + p] = float(positive ? greater(sum, 0.0) : sum);
}

// Softmax over channels of scores (N, K); a channel of zeros (`kinds` (K,) as normalize_maps gives them) has weight
// zero, a constant one the score of the blank picture. One block per row.
extern "C" __global__ void __launch_bounds__(256) score_weights(
    const float *__restrict__ scores, const float *__restrict__ blank, const int *__restrict__ kinds,
    float *__restrict__ weights, int N, int K)
{
    __shared__ double room[256];
    enum { ZERO = 1, CONSTANT = 2 };
    const size_t start = size_t(blockIdx.x) * K;
    double most = -__longlong_as_double(0x7ff0000000000000ll);
    for (int k = threadIdx.x; k < K; k += blockDim.x)
        if (kinds[k] != ZERO)
            most = greater(most, double(kinds[k] == CONSTANT ? blank[blockIdx.x] : scores[start + k]));
    most = together(most, room, Greatest());
    double sum = 0;
    for (int k = threadIdx.x; k < K; k += blockDim.x)
        if (kinds[k] != ZERO) sum += exp((kinds[k] == CONSTANT ? blank[blockIdx.x] : scores[start + k]) - most);
    sum = together(sum, room, Sum());
    for (int k = threadIdx.x; k < K; k += blockDim.x) {
        const float score = kinds[k] == CONSTANT ? blank[blockIdx.x] : scores[start + k];
        weights[start + k] = kinds[k] == ZERO ? 0 : float(exp(score - most) / sum);
    }
}

// scores[n, k] = logits[b, classes[n]] for pictures b that are masked with channel k = channels[b]; -1 marks others.
// One block per picture.
extern "C" __global__ void __launch_bounds__(128) gather_scores(
    const float *__restrict__ logits, const int *__restrict__ channels, const int *__restrict__ classes,
    float *__restrict__ scores, int B, int C, int N, int K)
{
    __shared__ float room[128];
    const int channel = channels[blockIdx.x];
    if (channel < 0) return;
    const float *row = logits + size_t(blockIdx.x) * C;
    const float doubted = doubt(row, C, room);
    for (int n = threadIdx.x; n < N; n += blockDim.x) scores[size_t(n) * K + channel] = row[classes[n]] + doubted;
}

// Logit and probability of class classes[m] in row rows[m] of the logits (B, C), for M pictures. `ending` says how
// logits become probabilities: by a softmax, by a sigmoid of each, or not at all. One block per m.
extern "C" __global__ void __launch_bounds__(256) read_classes(
    const float *__restrict__ logits, const int *__restrict__ rows, const int *__restrict__ classes,
    float *__restrict__ scores, double *__restrict__ confidences, int B, int C, int M, int ending)
{
    enum { SOFTMAX, SIGMOID, VALUE };
    __shared__ double room[256];
    const float *row = logits + size_t(rows[blockIdx.x]) * C;
    const double score = row[classes[blockIdx.x]] + doubt(row, C, room);
    double most = -__longlong_as_double(0x7ff0000000000000ll);
    for (int c = threadIdx.x; c < C; c += blockDim.x) most = greater(most, double(row[c]));
    most = together(most, room, Greatest());
    double sum = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) sum += exp(row[c] - most);
    sum = together(sum, room, Sum());
    if (threadIdx.x == 0) {
        scores[blockIdx.x] = float(score);
        // exp of numbers up to zero only: no overflow
        const double small = exp(-magnitude(score)), of_one = (score < 0 ? small : 1) / (1 + small);
        confidences[blockIdx.x] = ending == VALUE ? score : ending == SIGMOID ? of_one : exp(score - most) / sum;
    }
}
