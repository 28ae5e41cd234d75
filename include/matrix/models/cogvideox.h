#pragma once

#include "matrix/models/backbone.h"
#include "matrix/models/block_weights.h"
#include "matrix/tensor_io/weights.h"

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace matrix::models {

/// transformer/config.json of `CogVideoXTransformer3DModel`; absent fields take the reference's
/// defaults.
struct CogVideoXConfig {
    std::int64_t num_attention_heads = 30;
    std::int64_t attention_head_dim = 64;
    std::int64_t in_channels = 16;
    std::int64_t out_channels = 16;
    bool flip_sin_to_cos = true;
    double freq_shift = 0.0;
    std::int64_t time_embed_dim = 512;
    std::optional<std::int64_t> ofs_embed_dim;
    std::int64_t text_embed_dim = 4096;
    std::int64_t num_layers = 30;
    bool attention_bias = true;
    std::int64_t sample_width = 90;   ///< latents
    std::int64_t sample_height = 60;  ///< latents
    std::int64_t sample_frames = 49;  ///< pixel frames
    std::int64_t patch_size = 2;
    std::optional<std::int64_t> patch_size_t;
    std::int64_t temporal_compression_ratio = 4;
    std::int64_t max_text_seq_length = 226;
    bool norm_elementwise_affine = true;
    double norm_eps = 1e-5;
    double spatial_interpolation_scale = 1.875;
    double temporal_interpolation_scale = 1.0;
    bool use_rotary_positional_embeddings = false;
    bool use_learned_positional_embeddings = false;
    bool patch_bias = true;

    [[nodiscard]] std::int64_t width() const { return num_attention_heads * attention_head_dim; }
    /// Whether text and video rows get a position table added (2B, and 5B-I2V's learned one).
    [[nodiscard]] bool has_position_table() const {
        return !use_rotary_positional_embeddings || use_learned_positional_embeddings;
    }

    /// Types, ranges and combinations are checked before a value is used; RunError naming the file
    /// and the field.
    [[nodiscard]] static CogVideoXConfig from_file(const std::filesystem::path& config_json);
};

/// The rotary table of the I2V pipeline for latents of F frames and h x w: angles of every video
/// token's channel pairs.
struct RotaryTable {
    at::Tensor cos;  ///< [tokens, head_dim] float32, each value twice, as the reference hands it to
                     ///< attention
    at::Tensor sin;
    std::optional<std::array<std::int64_t, 4>>
        crop;  ///< top, left, bottom, right; models without temporal patches
};
[[nodiscard]] RotaryTable rotary_table(const CogVideoXConfig& config, std::int64_t frames,
                                       std::int64_t height, std::int64_t width);

/// The 3D sin-cos position table over text (zeros) and video rows, [max text + tokens, D], for the
/// 2B model and, as the reference does, for frame counts that a learned table was not made for.
[[nodiscard]] at::Tensor sincos_position_table(const CogVideoXConfig& config, std::int64_t frames,
                                               std::int64_t height, std::int64_t width);

/// Bytes and counts of a checkpoint come from the same constructor: pass
/// `tensor_io::CountingWeights`.
class CogVideoXTransformer final : public Backbone {
public:
    CogVideoXTransformer(const CogVideoXConfig& config, tensor_io::WeightSource& weights,
                         std::unique_ptr<BlockWeights> block_weights = resident_blocks());
    ~CogVideoXTransformer() override;

    [[nodiscard]] BackboneOutput forward(const BackboneInput& input,
                                         const ForwardOptions& options) const override;
    [[nodiscard]] nn::TokenLayout layout(std::int64_t frames, std::int64_t height,
                                         std::int64_t width,
                                         std::int64_t text_tokens) const override;
    [[nodiscard]] double training_flops(const nn::TokenLayout& layout) const override;
    [[nodiscard]] std::int64_t num_blocks() const override;
    [[nodiscard]] std::int64_t in_channels() const override;
    [[nodiscard]] at::ScalarType dtype() const override;
    [[nodiscard]] at::Device device() const override;
    [[nodiscard]] nn::Linear& input_projection() override;
    [[nodiscard]] std::map<std::string, nn::Linear*> adaptable_linears() override;
    void widen_input(std::int64_t channels) override;
    [[nodiscard]] const CogVideoXConfig& config() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Opens `<model>/transformer` of a Hugging Face directory.
[[nodiscard]] std::unique_ptr<CogVideoXTransformer> load_cogvideox(
    const std::filesystem::path& model_directory, at::ScalarType dtype, at::Device device,
    std::unique_ptr<BlockWeights> block_weights = resident_blocks());

}  // namespace matrix::models
