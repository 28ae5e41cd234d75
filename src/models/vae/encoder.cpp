#include "models/vae/encoder.h"

#include <ATen/ATen.h>

#include <utility>

namespace matrix::models::vae {
namespace {

constexpr double kNormOutEps = 1e-6;  // fixed in the reference, unlike the resnets' norm_eps

}  // namespace

Encoder::Encoder(const VaeConfig& config, tensor_io::WeightSource& weights)
    : conv_in_(config.in_channels, config.block_out_channels.front(), "encoder.conv_in", weights),
      norm_out_(config.block_out_channels.back(), {config.norm_num_groups, kNormOutEps},
                "encoder.norm_out", weights),
      conv_out_(config.block_out_channels.back(), 2 * config.latent_channels, "encoder.conv_out",
                weights) {
    const NormConfig norm{config.norm_num_groups, config.norm_eps};
    std::int64_t channels = config.block_out_channels.front();
    for (std::size_t b = 0; b < config.block_out_channels.size(); ++b) {
        const std::string prefix = "encoder.down_blocks." + std::to_string(b);
        const std::int64_t out = config.block_out_channels[b];
        DownBlock block;
        for (std::int64_t i = 0; i < config.layers_per_block; ++i) {
            block.resnets.emplace_back(i == 0 ? channels : out, out, norm,
                                       prefix + ".resnets." + std::to_string(i), weights);
        }
        if (b + 1 < config.block_out_channels.size()) {
            block.downsampler.emplace_back(out, b < num_time_levels(config),
                                           prefix + ".downsamplers.0", weights);
        }
        down_blocks_.push_back(std::move(block));
        channels = out;
    }
    for (std::int64_t i = 0; i < kMidResnets; ++i) {
        mid_resnets_.emplace_back(channels, channels, norm,
                                  "encoder.mid_block.resnets." + std::to_string(i), weights);
    }
}

at::Tensor Encoder::forward(const at::Tensor& frames, CausalCache& cache) const {
    at::Tensor h = conv_in_.forward(frames, cache);
    for (const DownBlock& block : down_blocks_) {
        for (const ResnetBlock& resnet : block.resnets) {
            h = resnet.forward(h, cache, {});
        }
        for (const Downsampler& downsampler : block.downsampler) {
            h = downsampler.forward(h);
        }
    }
    for (const ResnetBlock& resnet : mid_resnets_) {
        h = resnet.forward(h, cache, {});
    }
    h = norm_out_.forward(h, {});
    return conv_out_.forward_silu(std::move(h), cache);
}

}  // namespace matrix::models::vae
