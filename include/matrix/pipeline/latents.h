#pragma once

#include "matrix/models/vae.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

// What stands between the VAE and the denoising loop.

namespace matrix::pipeline {

/// Latents [C, 1, h, w] of one frame as a condition [1, F, C, h, w]: scaled (divided, where the
/// config inverts it), zeros behind the first frame.
[[nodiscard]] at::Tensor first_frame_condition(const at::Tensor& latents, std::int64_t num_frames,
                                               const models::VaeConfig& vae);

/// Latents [1, F, C, h, w] to frames [T, 3, H, W] float32 in [0, 1] on the CPU.
[[nodiscard]] at::Tensor decode_video(const models::VaeDecoder& vae, const at::Tensor& latents,
                                      bool tiling);

/// Frames [T, 3, H, W] in [0, 1] to [T, H, W, 3] uint8.
[[nodiscard]] at::Tensor to_bytes(const at::Tensor& frames);

}  // namespace matrix::pipeline
