#pragma once

#include "kernels/pass/element.h"

// AdamW over many tensors at once, in blocks of kAdamWBlock elements, the last of a tensor short:
// these are the rows. For GPUs alone; a CPU has ATen's.

namespace matrix::kernels::pass {

constexpr std::int64_t kAdamWBlock = 1 << 14;
/// As many as kernel arguments have room for, 32 KiB: so no table has to be copied to the device.
constexpr int kMostAdamWTensors = 512;

struct AdamWTensor {
    float* value;
    const float* grad;
    float *exp_avg, *exp_avg_sq;
    const float* step;  ///< before this one
    std::int64_t size;
    std::int32_t first_block;
    float learning_rate;
};

struct AdamW {
    AdamWTensor tensors[kMostAdamWTensors];
    std::int32_t count;
    float eps, weight_decay;
    double beta1, beta2;
    const float* clip;  ///< multiplies every gradient, or null
    const float* skip;  ///< nothing is written where it is not 0
};
static_assert(sizeof(AdamW) <= 32764);
void launch(const AdamW& a, std::int64_t rows, Stream stream);

}  // namespace matrix::kernels::pass
