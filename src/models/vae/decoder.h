#pragma once

#include "matrix/models/vae.h"
#include "models/vae/layers.h"

#include <vector>

namespace matrix::models::vae {

/// The network that turns one chunk of latents into frames: convolution, two resnets, up blocks,
/// norm, convolution.
class Decoder {
public:
    /// Takes every `decoder.*` tensor.
    Decoder(const VaeConfig& config, tensor_io::WeightSource& weights);

    /// [B, latent_channels, F, h, w] in the weights' dtype to [B, out_channels, T, 8h, 8w]; T is
    /// 4F, or 4F - 3 for an odd F. `cache` holds the clip's earlier chunks.
    [[nodiscard]] at::Tensor forward(const at::Tensor& latents, CausalCache& cache) const;
    /// Dtype and device of the weights.
    [[nodiscard]] at::TensorOptions options() const { return conv_in_.options(); }

private:
    struct UpBlock {
        std::vector<ResnetBlock> resnets;
        std::vector<Upsampler> upsampler;  // one, or none in the last block
    };

    CausalConv3d conv_in_;
    std::vector<ResnetBlock> mid_resnets_;
    std::vector<UpBlock> up_blocks_;
    Norm norm_out_;
    CausalConv3d conv_out_;
};

}  // namespace matrix::models::vae
