#include "matrix/core/model_config.h"
#include "matrix/models/cogvideox.h"

namespace matrix::models {
namespace {

// Far above any published model; small enough that no product of sizes overflows.
constexpr std::int64_t kMaxHeads = 1024;
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kMaxChannels = 4096;
constexpr std::int64_t kMaxWidth = 1 << 16;
constexpr std::int64_t kMaxLayers = 1024;
constexpr std::int64_t kMaxLatentSide = 4096;
constexpr std::int64_t kMaxFrames = 1 << 14;

void check_combinations(const ModelConfig& file, const CogVideoXConfig& c) {
    if (c.width() > kMaxWidth) {
        file.fail("num_attention_heads",
                  "times attention_head_dim is more than " + std::to_string(kMaxWidth));
    }
    if (c.use_rotary_positional_embeddings && c.attention_head_dim % 16 != 0) {
        file.fail("attention_head_dim", "rotary embeddings want a multiple of 16, got " +
                                            std::to_string(c.attention_head_dim));
    }
    if (c.has_position_table() && c.width() % 16 != 0) {
        file.fail("attention_head_dim",
                  "a position table wants a width that is a multiple of 16, got " +
                      std::to_string(c.width()));
    }
    if (!c.use_rotary_positional_embeddings && c.use_learned_positional_embeddings) {
        file.fail("use_learned_positional_embeddings",
                  "a learned table without rotary embeddings exists in no model");
    }
    if (c.ofs_embed_dim && *c.ofs_embed_dim != c.time_embed_dim) {
        file.fail("ofs_embed_dim", "is added to the time embedding and must be time_embed_dim, " +
                                       std::to_string(c.time_embed_dim));
    }
    if (c.patch_size_t && c.has_position_table()) {
        file.fail("patch_size_t",
                  "temporal patches go with rotary embeddings alone, without a position table");
    }
    if (c.sample_height % c.patch_size != 0 || c.sample_width % c.patch_size != 0) {
        file.fail("sample_height",
                  "sample_height and sample_width must be multiples of patch_size");
    }
}

}  // namespace

CogVideoXConfig CogVideoXConfig::from_file(const std::filesystem::path& config_json) {
    const ModelConfig file(config_json);
    file.expect_class({"CogVideoXTransformer3DModel"});
    for (const char* name : {"_class_name", "num_layers", "num_attention_heads",
                             "attention_head_dim", "in_channels"}) {
        file.require(name);
    }
    CogVideoXConfig c;
    c.num_attention_heads =
        file.integer("num_attention_heads", c.num_attention_heads, 1, kMaxHeads);
    c.attention_head_dim = file.integer("attention_head_dim", c.attention_head_dim, 2, kMaxHeadDim);
    c.in_channels = file.integer("in_channels", c.in_channels, 1, kMaxChannels);
    c.out_channels = file.integer("out_channels", c.out_channels, 1, kMaxChannels);
    c.flip_sin_to_cos = file.flag("flip_sin_to_cos", c.flip_sin_to_cos);
    c.freq_shift = file.number("freq_shift", c.freq_shift, 0, 1);
    c.time_embed_dim = file.integer("time_embed_dim", c.time_embed_dim, 1, kMaxWidth);
    c.ofs_embed_dim = file.optional_integer("ofs_embed_dim", 2, kMaxWidth);
    c.text_embed_dim = file.integer("text_embed_dim", c.text_embed_dim, 1, kMaxWidth);
    c.num_layers = file.integer("num_layers", c.num_layers, 1, kMaxLayers);
    c.attention_bias = file.flag("attention_bias", c.attention_bias);
    c.sample_width = file.integer("sample_width", c.sample_width, 2, kMaxLatentSide);
    c.sample_height = file.integer("sample_height", c.sample_height, 2, kMaxLatentSide);
    c.sample_frames = file.integer("sample_frames", c.sample_frames, 1, kMaxFrames);
    c.patch_size = file.integer("patch_size", c.patch_size, 2, 2);
    c.patch_size_t = file.optional_integer("patch_size_t", 1, 16);
    c.temporal_compression_ratio =
        file.integer("temporal_compression_ratio", c.temporal_compression_ratio, 4, 4);
    c.max_text_seq_length =
        file.integer("max_text_seq_length", c.max_text_seq_length, 1, kMaxWidth);
    c.norm_elementwise_affine = file.flag("norm_elementwise_affine", c.norm_elementwise_affine);
    c.norm_eps = file.number("norm_eps", c.norm_eps, 0, 1);
    c.spatial_interpolation_scale =
        file.number("spatial_interpolation_scale", c.spatial_interpolation_scale, 1e-6, 1e6);
    c.temporal_interpolation_scale =
        file.number("temporal_interpolation_scale", c.temporal_interpolation_scale, 1e-6, 1e6);
    c.use_rotary_positional_embeddings =
        file.flag("use_rotary_positional_embeddings", c.use_rotary_positional_embeddings);
    c.use_learned_positional_embeddings =
        file.flag("use_learned_positional_embeddings", c.use_learned_positional_embeddings);
    c.patch_bias = file.flag("patch_bias", c.patch_bias);
    (void)file.number("dropout", 0.0, 0, 0);
    file.only("activation_fn", "gelu-approximate");
    file.only("timestep_activation_fn", "silu");
    check_combinations(file, c);
    return c;
}

}  // namespace matrix::models
