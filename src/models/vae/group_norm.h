#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace matrix::models::vae {

/// at::group_norm of x [B, C, T, H, W] in the memory format of `x`. On the CPU that one adds up
/// channels_last memory value after value in float32, so that 8 frames of 480 x 720 come out wrong
/// by 1e-3 of the largest value; there this is right to float32's precision.
[[nodiscard]] at::Tensor group_norm(const at::Tensor& x, std::int64_t groups,
                                    const at::Tensor& weight, const at::Tensor& bias, double eps);

}  // namespace matrix::models::vae
