#include <nlohmann/json.hpp>

#include <bit>
#include <string>

#include "matrix/core/model_config.h"
#include "matrix/models/vae.h"

namespace matrix::models {
namespace {

// Far above any published model; small enough that no product of sizes overflows.
constexpr std::int64_t kMaxChannels = 8192;
constexpr std::size_t kMaxBlocks = 8;
constexpr std::int64_t kMaxLayers = 64;
constexpr std::int64_t kMaxSamplePx = 1 << 16;

// Every block is of the one type this program has; the reference's default list names four.
void check_block_types(const ModelConfig& file, const char* name, const char* type,
                       std::size_t num_blocks) {
    constexpr std::size_t kDefaultBlocks = 4;
    if (num_blocks != kDefaultBlocks) {
        file.require(name);
    }
    file.only(name, std::vector<std::string>(num_blocks, type));
}

std::int64_t time_ratio(const ModelConfig& file, const VaeConfig& c) {
    // The largest ratio is what a factor of two in every block but the last gives.
    const double maximum = static_cast<double>(spatial_downscale(c));
    const double ratio = file.number("temporal_compression_ratio",
                                     static_cast<double>(c.temporal_compression_ratio), 1, maximum);
    const auto whole = static_cast<std::int64_t>(ratio);
    if (static_cast<double>(whole) != ratio ||
        !std::has_single_bit(static_cast<std::uint64_t>(whole))) {
        file.fail("temporal_compression_ratio", "expected a power of two");
    }
    return whole;
}

}  // namespace

VaeConfig VaeConfig::from_file(const std::filesystem::path& config_json) {
    const ModelConfig file(config_json);
    file.only("_class_name", "AutoencoderKLCogVideoX");
    VaeConfig c;
    c.in_channels = file.integer("in_channels", c.in_channels, 1, kMaxChannels);
    c.out_channels = file.integer("out_channels", c.out_channels, 1, kMaxChannels);
    c.latent_channels = file.integer("latent_channels", c.latent_channels, 1, kMaxChannels);
    c.block_out_channels =
        file.integers("block_out_channels", c.block_out_channels, 1, kMaxChannels, kMaxBlocks);
    check_block_types(file, "down_block_types", "CogVideoXDownBlock3D",
                      c.block_out_channels.size());
    check_block_types(file, "up_block_types", "CogVideoXUpBlock3D", c.block_out_channels.size());
    c.layers_per_block = file.integer("layers_per_block", c.layers_per_block, 1, kMaxLayers);
    c.norm_eps = file.number("norm_eps", c.norm_eps, 0, 1);
    c.norm_num_groups = file.integer("norm_num_groups", c.norm_num_groups, 1, kMaxChannels);
    for (const std::int64_t channels : c.block_out_channels) {
        if (channels % c.norm_num_groups != 0) {
            file.fail("norm_num_groups", std::to_string(c.norm_num_groups) +
                                             " does not divide the " + std::to_string(channels) +
                                             " channels of block_out_channels");
        }
    }
    c.sample_height = file.integer("sample_height", c.sample_height, 2, kMaxSamplePx);
    c.sample_width = file.integer("sample_width", c.sample_width, 2, kMaxSamplePx);
    c.temporal_compression_ratio = time_ratio(file, c);
    c.scaling_factor = file.number("scaling_factor", c.scaling_factor, 1e-6, 1e6);
    c.invert_scale_latents = file.flag("invert_scale_latents", c.invert_scale_latents);
    (void)file.flag("force_upcast", true);  // read by no CogVideoX pipeline
    file.only("act_fn", "silu");
    for (const char* name : {"shift_factor", "latents_mean", "latents_std"}) {
        file.only(name, nullptr);
    }
    for (const char* name : {"use_quant_conv", "use_post_quant_conv"}) {
        file.only(name, false);
    }
    return c;
}

}  // namespace matrix::models
