#include "models/vae/decoder_weights.h"

namespace matrix::models::vae {
namespace {

using Visit = std::function<void(const std::string& key, at::IntArrayRef shape)>;

class DecoderWeights {
public:
    DecoderWeights(std::int64_t latent_channels, const Visit& visit)
        : latent_channels_(latent_channels), visit_(visit) {}

    void causal_conv(std::int64_t in, std::int64_t out, std::int64_t kernel,
                     const std::string& prefix) const {
        visit_(prefix + ".conv.weight", {out, in, kernel, kernel, kernel});
        visit_(prefix + ".conv.bias", {out});
    }
    // The norm whose scale and shift are 1x1x1 convolutions of the latents.
    void spatial_norm(std::int64_t channels, const std::string& prefix) const {
        visit_(prefix + ".norm_layer.weight", {channels});
        visit_(prefix + ".norm_layer.bias", {channels});
        causal_conv(latent_channels_, channels, 1, prefix + ".conv_y");
        causal_conv(latent_channels_, channels, 1, prefix + ".conv_b");
    }
    void resnet(std::int64_t in, std::int64_t out, const std::string& prefix) const {
        spatial_norm(in, prefix + ".norm1");
        causal_conv(in, out, 3, prefix + ".conv1");
        spatial_norm(out, prefix + ".norm2");
        causal_conv(out, out, 3, prefix + ".conv2");
        if (in != out) {
            visit_(prefix + ".conv_shortcut.weight", {out, in, 1, 1, 1});
            visit_(prefix + ".conv_shortcut.bias", {out});
        }
    }
    void upsampler(std::int64_t channels, const std::string& prefix) const {
        visit_(prefix + ".conv.weight", {channels, channels, 3, 3});
        visit_(prefix + ".conv.bias", {channels});
    }

private:
    std::int64_t latent_channels_;
    const Visit& visit_;
};

}  // namespace

void for_each_decoder_weight(const VaeConfig& config, const Visit& visit) {
    const DecoderWeights weights(config.latent_channels, visit);
    const std::size_t num_blocks = config.block_out_channels.size();
    std::int64_t channels = config.block_out_channels.back();
    weights.causal_conv(config.latent_channels, channels, 3, "decoder.conv_in");
    for (std::int64_t i = 0; i < 2; ++i) {
        weights.resnet(channels, channels, "decoder.mid_block.resnets." + std::to_string(i));
    }
    for (std::size_t b = 0; b < num_blocks; ++b) {
        const std::string prefix = "decoder.up_blocks." + std::to_string(b);
        const std::int64_t out = config.block_out_channels[num_blocks - 1 - b];
        for (std::int64_t i = 0; i < config.layers_per_block + 1; ++i) {
            weights.resnet(i == 0 ? channels : out, out, prefix + ".resnets." + std::to_string(i));
        }
        if (b + 1 < num_blocks) {
            weights.upsampler(out, prefix + ".upsamplers.0");
        }
        channels = out;
    }
    weights.spatial_norm(channels, "decoder.norm_out");
    weights.causal_conv(channels, config.out_channels, 3, "decoder.conv_out");
}

}  // namespace matrix::models::vae
