#pragma once

#include "matrix/tensor_io/weights.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

// The layers of CogVideoX's 3D causal VAE. Letters: B samples, C channels, T frames, H x W rows and
// columns. Tensors are [B, C, T, H, W] in channels_last_3d memory, i.e. frames, rows, columns,
// channels from the outside in: frames can be joined, split and handed to 2D convolutions without
// copies, and both oneDNN and cuDNN are fastest on it.

namespace matrix::models::vae {

/// Resnets between the blocks that change sizes and the latents; fixed in the reference.
constexpr std::int64_t kMidResnets = 2;

class CausalConv3d;

/// The last frames each causal convolution saw, carried from chunk to chunk of one clip. Starts
/// empty.
using CausalCache = std::unordered_map<const CausalConv3d*, at::Tensor>;

/// Convolution with a 3x3x3 kernel that looks at two frames before each frame and none after it;
/// zero padding of 1 in space. Before a clip's first frame stands that frame, twice.
class CausalConv3d {
public:
    /// Takes `<prefix>.conv.weight` [C_out, C_in, 3, 3, 3] and `<prefix>.conv.bias`.
    CausalConv3d(std::int64_t in_channels, std::int64_t out_channels, const std::string& prefix,
                 tensor_io::WeightSource& weights);

    /// [B, C_in, T, H, W] -> [B, C_out, T, H, W].
    [[nodiscard]] at::Tensor forward(const at::Tensor& x, CausalCache& cache) const;
    /// The convolution of SiLU(x); `x` is released before the convolution runs.
    [[nodiscard]] at::Tensor forward_silu(at::Tensor x, CausalCache& cache) const;

    /// Dtype and device of the weights.
    [[nodiscard]] at::TensorOptions options() const { return weight_.options(); }

private:
    /// Convolves [B, C_in, T + 2, H, W], whose first two frames are yet to be filled, and renews
    /// the cache.
    [[nodiscard]] at::Tensor convolve(const at::Tensor& padded, CausalCache& cache) const;

    at::Tensor weight_;
    at::Tensor bias_;
};

/// What the norms of one half of the VAE have in common.
struct NormConfig {
    std::int64_t num_groups;
    double eps;
    std::int64_t latent_channels = 0;  ///< of the latents that scale and shift; 0 in the encoder
};

/// Group norm, with statistics over each sample's group of channels and all of a chunk's frames. In
/// the decoder its result is then scaled and shifted by 1x1x1 convolutions of the chunk's latents,
/// each latent for all frames, rows and columns that come of it.
class Norm {
public:
    /// Takes `<prefix>.{weight,bias}`, or `<prefix>.norm_layer.*` and
    /// `<prefix>.{conv_y,conv_b}.conv.*`.
    Norm(std::int64_t channels, const NormConfig& config, const std::string& prefix,
         tensor_io::WeightSource& weights);
    /// `latents` [B, C_latent, F, h, w] are those of the chunk, undefined in the encoder. The
    /// first of an odd number of frames, if there are more, belongs to the first latent alone.
    [[nodiscard]] at::Tensor forward(const at::Tensor& x, const at::Tensor& latents) const;

private:
    /// A 1x1x1 convolution.
    struct Modulation {
        at::Tensor weight;
        at::Tensor bias;
    };

    at::Tensor weight_;
    at::Tensor bias_;
    NormConfig config_;
    Modulation scale_;
    Modulation shift_;
};

/// shortcut(x) + conv2(SiLU(norm2(conv1(SiLU(norm1(x)))))); the shortcut is a 1x1x1 convolution
/// where the number of channels changes, else the identity.
class ResnetBlock {
public:
    ResnetBlock(std::int64_t in_channels, std::int64_t out_channels, const NormConfig& norm,
                const std::string& prefix, tensor_io::WeightSource& weights);
    /// `latents` are for the norms.
    [[nodiscard]] at::Tensor forward(const at::Tensor& x, CausalCache& cache,
                                     const at::Tensor& latents) const;

private:
    Norm norm1_;
    CausalConv3d conv1_;
    Norm norm2_;
    CausalConv3d conv2_;
    at::Tensor shortcut_weight_;  // [C_out, C_in, 1, 1, 1], undefined for the identity
    at::Tensor shortcut_bias_;
};

/// Halves rows and columns by a 3x3 convolution of stride 2 over frames padded by one zero row
/// below and one zero column at the right; with `compress_time` first averages frames in pairs, the
/// first of an odd number standing alone.
class Downsampler {
public:
    Downsampler(std::int64_t channels, bool compress_time, const std::string& prefix,
                tensor_io::WeightSource& weights);
    [[nodiscard]] at::Tensor forward(const at::Tensor& x) const;

private:
    at::Tensor weight_;
    at::Tensor bias_;
    bool compress_time_;
};

/// Doubles rows and columns, each pixel becoming four, and runs a 3x3 convolution over each frame;
/// with `expand_time` then doubles the frames, the first of an odd number staying one.
class Upsampler {
public:
    Upsampler(std::int64_t channels, bool expand_time, const std::string& prefix,
              tensor_io::WeightSource& weights);
    [[nodiscard]] at::Tensor forward(const at::Tensor& x) const;

private:
    at::Tensor weight_;
    at::Tensor bias_;
    bool expand_time_;
};

}  // namespace matrix::models::vae
