#pragma once

#include "matrix/tensor_io/weights.h"

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

namespace matrix::models {

/// vae/config.json of `AutoencoderKLCogVideoX`; absent fields take the reference's defaults.
struct VaeConfig {
    std::int64_t in_channels = 3;
    std::int64_t out_channels = 3;
    std::int64_t latent_channels = 16;
    std::vector<std::int64_t> block_out_channels = {128, 256, 256, 512};
    std::int64_t layers_per_block = 3;
    double norm_eps = 1e-6;
    std::int64_t norm_num_groups = 32;
    std::int64_t sample_height = 480;  ///< pixels; half of it is the tile height
    std::int64_t sample_width = 720;
    std::int64_t temporal_compression_ratio = 4;
    double scaling_factor = 1.15258426;
    bool invert_scale_latents =
        false;  ///< image latents are divided by the scaling factor instead (1.5)

    /// Every value is checked for type and range before it is used; RunError naming the file and
    /// field.
    [[nodiscard]] static VaeConfig from_file(const std::filesystem::path& config_json);
};

/// Pixels per latent along rows and columns: 8 for the published models, 2^(blocks - 1) in general.
[[nodiscard]] std::int64_t spatial_downscale(const VaeConfig& config);

/// How often the VAE halves, or doubles, the number of frames: log2 of temporal_compression_ratio.
[[nodiscard]] std::size_t num_time_levels(const VaeConfig& config);

/// The encoder of CogVideoX's 3D causal VAE. Frames run in chunks of 8 (the first longer), with
/// each causal convolution carrying its last two frames from chunk to chunk; group-norm statistics
/// are per chunk, so the chunking is part of the result.
class VaeEncoder {
public:
    /// Takes `encoder.*`, expects `decoder.*` beside it, unread, and finishes the source: RunError
    /// with all faulty keys of both halves.
    VaeEncoder(const VaeConfig& config, tensor_io::WeightSource& weights);
    ~VaeEncoder();
    VaeEncoder(VaeEncoder&&) noexcept;

    /// [B, 3, T, H, W] in [-1, 1], of any floating dtype and device (chunks are brought to the
    /// weights'), to moments [B, 2 * latent_channels, F, H/8, W/8]: mean, then the raw
    /// log-variance. T is free, F = 1 + (T - 1) / 4 for the usual odd T; H and W are multiples of
    /// `spatial_downscale`, else RunError. `tiling` cuts a video larger than half of the config's
    /// sample into overlapping tiles, which bounds memory and changes the result. Without gradient;
    /// may be called from several threads.
    [[nodiscard]] at::Tensor encode(const at::Tensor& video, bool tiling = false) const;
    [[nodiscard]] const VaeConfig& config() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// The decoder of CogVideoX's 3D causal VAE. Latent frames run in chunks of 2 (the first of 3 where
/// their number is odd), with each causal convolution carrying its last two frames from chunk to
/// chunk; group-norm statistics are per chunk, so the chunking is part of the result. Activations
/// are those of one chunk, whatever the length of the clip.
class VaeDecoder {
public:
    /// Takes `decoder.*`, expects `encoder.*` beside it, unread, and finishes the source: RunError
    /// with all faulty keys of both halves.
    VaeDecoder(const VaeConfig& config, tensor_io::WeightSource& weights);
    ~VaeDecoder();
    VaeDecoder(VaeDecoder&&) noexcept;

    /// [B, latent_channels, F, h, w], already divided by the scaling factor, of any floating dtype
    /// and device (chunks are brought to the weights'), to [B, 3, T, 8h, 8w], not clamped. T =
    /// 4F - 3 for odd F and 4F for even F (with the usual ratio of 4). RunError for an empty
    /// input. `tiling` cuts latents larger than half of the config's sample into overlapping tiles,
    /// which bounds memory and changes the result. Without gradient; may be called from several
    /// threads.
    [[nodiscard]] at::Tensor decode(const at::Tensor& latents, bool tiling = false) const;
    [[nodiscard]] const VaeConfig& config() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Every key and shape of a VAE checkpoint, encoder and decoder, taken from `weights` (what `init`
/// writes).
void take_vae_weights(const VaeConfig& config, tensor_io::WeightSource& weights);

}  // namespace matrix::models
