#pragma once

#include "kernels/cuda/device.cuh"

namespace matrix::kernels::cuda {

/// What a LayerNorm keeps of a row: x_hat = (x - mean) rstd.
struct Statistics {
    float mean, rstd;
};

/// The gradient of x from g, that of x_hat: rstd (g - mean(g) - x_hat mean(g x_hat)).
struct NormBackward {
    float mean, rstd, slope, offset;

    /// From a row's sums of g and of g (x - mean).
    __device__ __forceinline__ NormBackward(Statistics s, float sum, float projection, int width)
        : mean(s.mean),
          rstd(s.rstd),
          slope(s.rstd * s.rstd * s.rstd * projection / static_cast<float>(width)),
          offset(s.rstd * sum / static_cast<float>(width)) {}

    __device__ __forceinline__ float operator()(float g, float x) const {
        return rstd * g - slope * (x - mean) - offset;
    }
};

}  // namespace matrix::kernels::cuda
