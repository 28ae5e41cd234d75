#pragma once

#include "matrix/models/vae.h"

#include <ATen/core/Tensor.h>

#include <string>

// The other half of scripts/fixtures/make_vae.py: the same weights and videos from the same hash.

namespace matrix::models::testing {

/// [-1, 1) float32 from 24 bits of splitmix64(FNV-1a(name) + index).
[[nodiscard]] at::Tensor uniform(const std::string& name, at::IntArrayRef shape);
/// The weight `name` of every fixture model.
[[nodiscard]] at::Tensor weight(const std::string& name, at::IntArrayRef shape);

[[nodiscard]] std::string fixture(const std::string& name);
[[nodiscard]] VaeConfig fixture_config(const std::string& name);
/// The moments, or the video, that the reference computed for a case of the script.
[[nodiscard]] at::Tensor expected(const std::string& name);
[[nodiscard]] at::Tensor expected_video(const std::string& name);

[[nodiscard]] VaeEncoder make_encoder(const VaeConfig& config);
[[nodiscard]] VaeEncoder make_encoder(const std::string& config_name);
[[nodiscard]] VaeDecoder make_decoder(const std::string& config_name);

/// Largest absolute difference over the largest absolute reference value; infinite for other shapes
/// or dtypes.
[[nodiscard]] double relative_error(const at::Tensor& got, const at::Tensor& reference);

}  // namespace matrix::models::testing
