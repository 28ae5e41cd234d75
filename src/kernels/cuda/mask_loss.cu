#include "kernels/pass/mask_loss.h"

#include "kernels/cuda/device.cuh"

// A block of threads a block of pixels.

namespace matrix::kernels::cuda {
namespace {

/// What a pixel's logit says about its wrong class: t = -x where y = 1, else x. Nothing is taken
/// from 1, so that what is nearly right keeps its digits.
struct Pixel {
    float wrong, right;   ///< sigmoid(t), sigmoid(-t)
    float cross_entropy;  ///< log(1 + exp(t))
};

__device__ __forceinline__ Pixel pixel(float x, bool positive) {
    const float t = positive ? -x : x;
    const float e = expf(t < 0 ? t : -t);
    const float larger = 1 / (1 + e), smaller = e * larger;
    return {t < 0 ? smaller : larger, t < 0 ? larger : smaller, (t < 0 ? 0 : t) + log1pf(e)};
}

/// The pixels of a block.
struct Range {
    std::int64_t entity, first;
    int count;
};

__device__ __forceinline__ Range own_range(std::int64_t pixels) {
    // pass::blocks_of, which is a function of the host alone.
    const std::int64_t blocks = (pixels + pass::kBlockPixels - 1) / pass::kBlockPixels;
    const std::int64_t entity = blockIdx.x / blocks;
    const std::int64_t begin = (blockIdx.x - entity * blocks) * pass::kBlockPixels;
    const std::int64_t left = pixels - begin;
    return {entity, entity * pixels + begin,
            static_cast<int>(left < pass::kBlockPixels ? left : pass::kBlockPixels)};
}

__global__ void sums(pass::MaskSums a) {
    const Range range = own_range(a.pixels);
    // A thread adds 64 values of at most 1, so that float32 is enough; the cross-entropy has no
    // bound.
    float positives = 0, overlap = 0, foreground = 0, squares = 0;
    double positive_bce = 0, all_bce = 0;
    for_own<1>(range.count, [&](int i) {
        const bool positive = a.y[range.first + i] != 0;
        const Pixel p = pixel(a.x[range.first + i], positive);
        all_bce += p.cross_entropy;
        foreground += positive ? p.right : p.wrong;
        squares += p.wrong * p.wrong;
        if (positive) {
            positives += 1;
            positive_bce += p.cross_entropy;
            overlap += p.right;
        }
    });
    double all[] = {positives, positive_bce, all_bce, overlap, foreground, squares};
    block_sum(all);
    if (threadIdx.x == 0) {
        for (int k = 0; k < 6; ++k) {
            a.sums[6 * static_cast<std::int64_t>(blockIdx.x) + k] = all[k];
        }
    }
}

__global__ void gradient(pass::MaskGradient a) {
    const Range range = own_range(a.pixels);
    const pass::MaskSlopes s = a.slopes[range.entity];
    for_own<1>(range.count, [&](int i) {
        const bool positive = a.y[range.first + i] != 0;
        const Pixel p = pixel(a.x[range.first + i], positive);
        const float miss = positive ? -p.wrong : p.wrong;
        const float bce = s.bce + (positive ? s.extra_bce : 0);
        const float by_s = miss * s.square + s.everywhere + (positive ? s.inside : 0);
        a.grad[range.first + i] = miss * bce + by_s * (p.wrong * p.right);
    });
}

}  // namespace
}  // namespace matrix::kernels::cuda

namespace matrix::kernels::pass {

void launch(const MaskSums& a, std::int64_t rows, Stream stream) {
    cuda::start(cuda::sums, rows, cuda::kMostThreads, stream, a);
}

void launch(const MaskGradient& a, std::int64_t rows, Stream stream) {
    cuda::start(cuda::gradient, rows, cuda::kMostThreads, stream, a);
}

}  // namespace matrix::kernels::pass
