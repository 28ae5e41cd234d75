#include "kernels/pass/adamw.h"

#include "kernels/cuda/device.cuh"

// A block of threads a block of elements.

namespace matrix::kernels::cuda {
namespace {

/// The tensor that a block is of: the last whose first block is not after it.
__device__ __forceinline__ int tensor_of(const pass::AdamW& a, int block) {
    int low = 0, high = a.count;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (a.tensors[middle].first_block <= block) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

__global__ void adamw(const __grid_constant__ pass::AdamW a) {
    if (*a.skip != 0) {
        return;
    }
    const auto block = static_cast<int>(blockIdx.x);
    const pass::AdamWTensor& t = a.tensors[tensor_of(a, block)];
    // What float32 leaves of one minus a power near one is too little.
    __shared__ float corrections[2];
    if (threadIdx.x == 0) {
        const double step = static_cast<double>(*t.step) + 1;
        corrections[0] = static_cast<float>(t.learning_rate / (1 - pow(a.beta1, step)));
        corrections[1] = static_cast<float>(sqrt(1 - pow(a.beta2, step)));
    }
    __syncthreads();
    const float rate = corrections[0], root = corrections[1];
    const float clip = a.clip == nullptr ? 1 : *a.clip;
    const float kept = 1 - t.learning_rate * a.weight_decay;
    const auto beta2 = static_cast<float>(a.beta2), rest1 = static_cast<float>(1 - a.beta1),
               rest2 = static_cast<float>(1 - a.beta2);
    const std::int64_t begin = (block - t.first_block) * pass::kAdamWBlock;
    const std::int64_t left = t.size - begin;
    for_own<1>(left < pass::kAdamWBlock ? left : pass::kAdamWBlock, [&](int i) {
        const std::int64_t at = begin + i;
        const float grad = t.grad[at] * clip;
        const float m = t.exp_avg[at] + rest1 * (grad - t.exp_avg[at]);
        const float v = beta2 * t.exp_avg_sq[at] + rest2 * grad * grad;
        t.exp_avg[at] = m;
        t.exp_avg_sq[at] = v;
        t.value[at] = t.value[at] * kept - rate * m / (sqrtf(v) / root + a.eps);
    });
}

}  // namespace
}  // namespace matrix::kernels::cuda

namespace matrix::kernels::pass {

void launch(const AdamW& a, std::int64_t rows, Stream stream) {
    cuda::start(cuda::adamw, rows, cuda::kMostThreads, stream, a);
}

}  // namespace matrix::kernels::pass
