#pragma once

#include "matrix/prepare/encoders.h"
#include "matrix/tensor_io/safetensors.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

// C latent channels, F latent frames, h x w latent rows and columns, J image versions.

namespace matrix::prepare {

/// The first frame with noise: frame + sigma * normal, sigma = exp(N(-3, 0.5)) (the diffusers
/// training script's distribution), both drawn by (seed, number). `frame` [3, 1, H, W].
[[nodiscard]] at::Tensor noisy_first_frame(const at::Tensor& frame, std::uint64_t seed,
                                           std::uint64_t number);

/// `encode`, with RunError naming `name` if a value is not finite.
[[nodiscard]] at::Tensor encode_finite(const Encode& encode, const at::Tensor& video,
                                       const std::string& name);

/// The tensors of a video entry (data_cache/entries.h). `video` [3, T, H, W]; `content_hash` of the
/// video's file keys the noise, so that the entry does not depend on where the clip stands or on
/// any seed.
[[nodiscard]] tensor_io::TensorMap encode_video(const Encode& encode, const at::Tensor& video,
                                                const std::string& content_hash,
                                                std::int64_t num_versions, const std::string& name);

/// Mean of the ID map's moments, [C, 1, h, w]. `id_map` [3, H, W].
[[nodiscard]] at::Tensor encode_id_map(const Encode& encode, const at::Tensor& id_map,
                                       const std::string& name);

/// Embeddings of `input_ids` [n, L], a few prompts at a time, with a progress bar: `done(i,
/// embedding)` gets each [L, D_t] as it is made. Throws Stopped between two batches.
void encode_prompts(const Encode& encode, const at::Tensor& input_ids,
                    const std::function<void(std::int64_t, const at::Tensor&)>& done);

/// Throws Stopped if a stop signal came.
void poll_stop();

}  // namespace matrix::prepare
