#include <ATen/ATen.h>

#include "cli/probe/parts.h"
#include "matrix/models/vae.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::cli::probe {

Result run_vae_decode(const Request& request) {
    const Inputs in(request);
    const auto config = models::VaeConfig::from_file(request.component("vae") / "config.json");
    const at::Tensor latents =
        in.floating("latents", {-1, config.latent_channels, -1, -1, -1});  // [B, 16, F, h, w]
    tensor_io::FileWeights weights(request.component("vae"), "diffusion_pytorch_model",
                                   request.dtype(), request.device());
    const models::VaeDecoder decoder(config, weights);
    Result result;
    result.outputs["video"] = decoder.decode(latents, request.tiling);  // [B, 3, T, H, W]
    return result;
}

Result run_vae_encode(const Request& request) {
    const Inputs in(request);
    const auto config = models::VaeConfig::from_file(request.component("vae") / "config.json");
    const at::Tensor video =
        in.floating("video", {-1, config.in_channels, -1, -1, -1});  // [B, 3, T, H, W]
    tensor_io::FileWeights weights(request.component("vae"), "diffusion_pytorch_model",
                                   request.dtype(), request.device());
    const models::VaeEncoder encoder(config, weights);
    Result result;
    result.outputs["moments"] = encoder.encode(video, request.tiling);  // [B, 32, F, h, w]
    return result;
}

}  // namespace matrix::cli::probe
