#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "cli/init/model_maker.h"
#include "matrix/core/random.h"
#include "matrix/models/cogvideox.h"
#include "matrix/models/t5.h"
#include "matrix/models/vae.h"
#include "matrix/tensor_io/safetensors.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kLogVariance =
    -12.0;  ///< posterior deviation 0.0025: a random VAE's noise must not drown the picture

/// PyTorch's default for linears and convolutions, weight and bias alike: uniform in +-1/sqrt(fan
/// in).
at::Tensor fan_in_uniform(at::IntArrayRef shape, std::int64_t fan_in, std::uint64_t seed,
                          const std::string& key, at::Device device) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
    return at::empty(shape, at::TensorOptions(device).dtype(at::kFloat))
        .uniform_(-bound, bound, keyed_generator(seed, Purpose::kModelInit, name_key(key), device));
}

at::Tensor normal(at::IntArrayRef shape, double deviation, std::uint64_t seed,
                  const std::string& key) {
    return keyed_normal(shape, seed, Purpose::kModelInit, name_key(key)) * deviation;
}

std::int64_t fan_in_of(at::IntArrayRef shape) {
    std::int64_t product = 1;
    for (const std::int64_t size : shape.slice(1)) {
        product *= size;
    }
    return product;
}

bool is_norm(const std::string& key) {
    return key.find("norm") != std::string::npos && key.find(".linear.") == std::string::npos &&
           key.find(".conv_") == std::string::npos;
}

/// Linears and convolutions: a weight is taken before its bias, whose bound is the weight's fan in.
class DefaultInit {
public:
    DefaultInit(std::uint64_t seed, at::Device device) : seed_(seed), device_(device) {}

    at::Tensor operator()(const std::string& key, at::IntArrayRef shape) {
        if (is_norm(key)) {
            return key.ends_with(".weight") ? at::ones(shape, device_) : at::zeros(shape, device_);
        }
        if (shape.size() > 1) {
            fan_in_ = fan_in_of(shape);
        }
        return fan_in_uniform(shape, fan_in_, seed_, key, device_);
    }

private:
    std::uint64_t seed_;
    at::Device device_;
    std::int64_t fan_in_ = 1;
};

/// A VAE that mixes channels at random and averages over space: its latents carry the local
/// colours, as a trained one's do, so that a model can learn to see who is who.
class SmoothInit {
public:
    explicit SmoothInit(std::uint64_t seed) : seed_(seed) {}

    at::Tensor operator()(const std::string& key, at::IntArrayRef shape) const {
        if (is_norm(key)) {
            return key.ends_with(".weight") ? at::ones(shape) : at::zeros(shape);
        }
        if (shape.size() == 1) {
            return at::zeros(shape);
        }
        const std::int64_t taps = fan_in_of(shape) / shape[1];  // kernel positions
        const at::Tensor mix =
            normal({shape[0], shape[1]}, std::pow(static_cast<double>(shape[1]), -0.5), seed_, key);
        at::Tensor mixed = mix;
        while (mixed.dim() < static_cast<std::int64_t>(shape.size())) {
            mixed = mixed.unsqueeze(-1);
        }
        const at::Tensor detail =
            normal(shape, kDetail * std::pow(static_cast<double>(fan_in_of(shape)), -0.5), seed_,
                   key + ".detail");
        return mixed.expand(shape) / static_cast<double>(taps) + detail;
    }

private:
    static constexpr double kDetail = 0.3;  ///< weight of what is not an average

    std::uint64_t seed_;
};

void save(const tensor_io::GeneratedWeights& weights, const fs::path& path) {
    tensor_io::write_safetensors(path, weights.tensors(), {{"format", "pt"}});
}

void write_transformer(const fs::path& directory, std::uint64_t seed, at::ScalarType dtype) {
    const auto config = models::CogVideoXConfig::from_file(directory / "config.json");
    tensor_io::GeneratedWeights weights(random_transformer(config, seed, dtype));
    const models::CogVideoXTransformer transformer(config, weights);
    save(weights, directory / "diffusion_pytorch_model.safetensors");
}

/// Share of what a random layer adds to a token: the words stay told apart, as a trained encoder's
/// are.
constexpr double kTextResidual = 0.2;

void write_text_encoder(const fs::path& directory, std::uint64_t seed, at::ScalarType dtype) {
    const auto config = models::T5Config::from_file(directory / "config.json");
    tensor_io::GeneratedWeights weights(random_text_encoder(config, seed, dtype));
    const models::T5Encoder encoder(config, weights);
    save(weights, directory / "model.safetensors");
}

/// Blobs of colour that drift over time, around another mean colour in each clip, [8, 3, 17, H, W]
/// in [-1, 1]: what the encoder is calibrated on.
at::Tensor moving_pictures(const models::VaeConfig& config, std::uint64_t seed) {
    const at::Tensor coarse = normal({8, 3, 5, 7, 9}, 0.5, seed, "calibration") +
                              normal({8, 3, 1, 1, 1}, 0.5, seed, "calibration.mean");
    return at::upsample_trilinear3d(coarse,
                                    {17, std::min<std::int64_t>(config.sample_height, 96),
                                     std::min<std::int64_t>(config.sample_width, 160)},
                                    true)
        .clamp(-1, 1);
}

void write_vae(const fs::path& directory, std::uint64_t seed, at::ScalarType dtype) {
    const at::NoGradGuard no_grad;
    const auto config = models::VaeConfig::from_file(directory / "config.json");
    const SmoothInit init(seed);
    tensor_io::GeneratedWeights weights(
        [&](const std::string& key, at::IntArrayRef shape) { return init(key, shape); });
    models::take_vae_weights(config, weights);
    tensor_io::TensorMap tensors = weights.tensors();

    const std::int64_t channels = config.latent_channels;
    const at::Tensor weight = tensors.at("encoder.conv_out.conv.weight");  // [2C, I, 3, 3, 3]
    const at::Tensor bias = tensors.at("encoder.conv_out.conv.bias");      // [2C]
    tensor_io::GeneratedWeights again(
        [&](const std::string& key, at::IntArrayRef) { return tensors.at(key); });
    const at::Tensor mean_half = models::VaeEncoder(config, again)
                                     .encode(moving_pictures(config, seed))
                                     .narrow(1, 0, channels)
                                     .transpose(0, 1)
                                     .flatten(1);                                // [C, everything]
    const at::Tensor factor = 1.0 / (mean_half.std(1) * config.scaling_factor);  // [C]
    bias.narrow(0, 0, channels).sub_(mean_half.mean(1)).mul_(factor);
    weight.narrow(0, 0, channels).mul_(factor.view({-1, 1, 1, 1, 1}));
    weight.narrow(0, channels, channels).zero_();
    bias.narrow(0, channels, channels).fill_(kLogVariance);
    for (auto& [key, tensor] : tensors) {
        tensor = tensor.to(dtype);
    }
    tensor_io::write_safetensors(directory / "diffusion_pytorch_model.safetensors", tensors,
                                 {{"format", "pt"}});
}

}  // namespace

tensor_io::GeneratedWeights::Generate random_transformer(const models::CogVideoXConfig& config,
                                                         std::uint64_t seed, at::ScalarType dtype,
                                                         at::Device device) {
    return [config, dtype, device, init = DefaultInit(seed, device)](
               const std::string& key, at::IntArrayRef shape) mutable {
        if (key == "patch_embed.pos_embedding") {
            const std::int64_t frames =
                (config.sample_frames - 1) / config.temporal_compression_ratio + 1;
            return models::sincos_position_table(config, frames, config.sample_height,
                                                 config.sample_width)
                .unsqueeze(0)
                .to(device, dtype);
        }
        return init(key, shape).to(dtype);
    };
}

/// The initial distributions of the reference's T5 (initializer_factor 1), but for the layers'
/// outputs.
tensor_io::GeneratedWeights::Generate random_text_encoder(const models::T5Config& config,
                                                          std::uint64_t seed,
                                                          at::ScalarType dtype) {
    return [config, seed, dtype](const std::string& key, at::IntArrayRef shape) {
        const auto d_model = static_cast<double>(config.d_model);
        const auto d_kv = static_cast<double>(config.d_kv);
        double deviation = std::pow(d_model, -0.5);
        if (key == "shared.weight") {
            deviation = 1.0;
        } else if (key.ends_with(".q.weight")) {
            deviation = std::pow(d_model * d_kv, -0.5);
        } else if (key.ends_with(".o.weight")) {
            deviation =
                kTextResidual * std::pow(static_cast<double>(config.num_heads) * d_kv, -0.5);
        } else if (key.ends_with(".wo.weight")) {
            deviation = kTextResidual * std::pow(static_cast<double>(config.d_ff), -0.5);
        }
        return (shape.size() == 1 ? at::ones(shape) : normal(shape, deviation, seed, key))
            .to(dtype);
    };
}

void write_random_weights(const fs::path& directory, std::uint64_t seed, at::ScalarType dtype) {
    write_transformer(directory / "transformer", seed, dtype);
    write_text_encoder(directory / "text_encoder", seed, dtype);
    write_vae(directory / "vae", seed, dtype);
}

}  // namespace matrix::cli
