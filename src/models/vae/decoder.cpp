#include "models/vae/decoder.h"

#include <ATen/ATen.h>

#include <utility>

namespace matrix::models::vae {
namespace {

// Fixed in the reference: all norms that latents scale and shift have this eps, not norm_eps.
constexpr double kEps = 1e-6;

NormConfig norm_of(const VaeConfig& config) {
    return {config.norm_num_groups, kEps, config.latent_channels};
}

}  // namespace

Decoder::Decoder(const VaeConfig& config, tensor_io::WeightSource& weights)
    : conv_in_(config.latent_channels, config.block_out_channels.back(), "decoder.conv_in",
               weights),
      norm_out_(config.block_out_channels.front(), norm_of(config), "decoder.norm_out", weights),
      conv_out_(config.block_out_channels.front(), config.out_channels, "decoder.conv_out",
                weights) {
    const NormConfig norm = norm_of(config);
    std::int64_t channels = config.block_out_channels.back();
    for (std::int64_t i = 0; i < kMidResnets; ++i) {
        mid_resnets_.emplace_back(channels, channels, norm,
                                  "decoder.mid_block.resnets." + std::to_string(i), weights);
    }
    const std::size_t num_blocks = config.block_out_channels.size();
    for (std::size_t b = 0; b < num_blocks; ++b) {
        const std::string prefix = "decoder.up_blocks." + std::to_string(b);
        const std::int64_t out = config.block_out_channels[num_blocks - 1 - b];
        UpBlock block;
        for (std::int64_t i = 0; i < config.layers_per_block + 1; ++i) {
            block.resnets.emplace_back(i == 0 ? channels : out, out, norm,
                                       prefix + ".resnets." + std::to_string(i), weights);
        }
        if (b + 1 < num_blocks) {
            block.upsampler.emplace_back(out, b < num_time_levels(config), prefix + ".upsamplers.0",
                                         weights);
        }
        up_blocks_.push_back(std::move(block));
        channels = out;
    }
}

at::Tensor Decoder::forward(const at::Tensor& latents, CausalCache& cache) const {
    at::Tensor h = conv_in_.forward(latents, cache);
    for (const ResnetBlock& resnet : mid_resnets_) {
        h = resnet.forward(h, cache, latents);
    }
    for (const UpBlock& block : up_blocks_) {
        for (const ResnetBlock& resnet : block.resnets) {
            h = resnet.forward(h, cache, latents);
        }
        for (const Upsampler& upsampler : block.upsampler) {
            h = upsampler.forward(h);
        }
    }
    h = norm_out_.forward(h, latents);
    return conv_out_.forward_silu(std::move(h), cache);
}

}  // namespace matrix::models::vae
