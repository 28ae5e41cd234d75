#pragma once

#include "matrix/models/vae.h"
#include "models/vae/layers.h"

#include <vector>

namespace matrix::models::vae {

/// The network that turns one chunk of frames into moments: convolution, down blocks, two resnets,
/// norm, convolution.
class Encoder {
public:
    /// Takes every `encoder.*` tensor.
    Encoder(const VaeConfig& config, tensor_io::WeightSource& weights);

    /// [B, in_channels, T, H, W] in channels_last_3d and the weights' dtype to [B, 2 *
    /// latent_channels, F, H/8, W/8]. `cache` holds the clip's earlier chunks.
    [[nodiscard]] at::Tensor forward(const at::Tensor& frames, CausalCache& cache) const;
    /// Dtype and device of the weights.
    [[nodiscard]] at::TensorOptions options() const { return conv_in_.options(); }

private:
    struct DownBlock {
        std::vector<ResnetBlock> resnets;
        std::vector<Downsampler> downsampler;  // one, or none in the last block
    };

    CausalConv3d conv_in_;
    std::vector<DownBlock> down_blocks_;
    std::vector<ResnetBlock> mid_resnets_;
    Norm norm_out_;
    CausalConv3d conv_out_;
};

}  // namespace matrix::models::vae
