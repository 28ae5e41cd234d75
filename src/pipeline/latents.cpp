#include "matrix/pipeline/latents.h"

#include <ATen/ATen.h>

namespace matrix::pipeline {

at::Tensor first_frame_condition(const at::Tensor& latents, std::int64_t num_frames,
                                 const models::VaeConfig& vae) {
    const double scale = vae.invert_scale_latents ? 1.0 / vae.scaling_factor : vae.scaling_factor;
    const at::Tensor first = latents.transpose(0, 1).unsqueeze(0) * scale;  // [1, 1, C, h, w]
    return at::constant_pad_nd(first, {0, 0, 0, 0, 0, 0, 0, num_frames - 1});
}

at::Tensor decode_video(const models::VaeDecoder& vae, const at::Tensor& latents, bool tiling) {
    const at::Tensor scaled =
        latents.transpose(1, 2) * (1.0 / vae.config().scaling_factor);  // [1, C, F, h, w]
    const at::Tensor video = vae.decode(scaled, tiling).squeeze(0);     // [3, T, H, W]
    const at::Tensor frames = video.transpose(0, 1).mul(0.5).add(0.5).clamp(0, 1);
    return frames.to(at::kCPU, at::kFloat).contiguous();
}

at::Tensor to_bytes(const at::Tensor& frames) {
    return frames.mul(255).round_().to(at::kByte).permute({0, 2, 3, 1}).contiguous();
}

}  // namespace matrix::pipeline
