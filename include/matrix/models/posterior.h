#pragma once

#include <ATen/core/Tensor.h>

// A VAE encoder's moments of one sample, [2C, ...]: the mean, then the raw log-variance of a
// normal distribution per element.

namespace matrix::models {

/// mean + exp(0.5 * clamp(logvar, -30, 20)) * noise of [2C, ...] moments, in their dtype and on
/// their device; `noise` [C, ...], else RunError.
[[nodiscard]] at::Tensor sample_posterior(const at::Tensor& moments, const at::Tensor& noise);

/// The mean half of [2C, ...] moments, a view.
[[nodiscard]] at::Tensor posterior_mean(const at::Tensor& moments);

}  // namespace matrix::models
