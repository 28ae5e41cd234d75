#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "matrix/lora/adapter.h"
#include "matrix/models/cogvideox.h"

namespace matrix::lora::testing {

inline std::filesystem::path fixture(const std::string& name) {
    return std::filesystem::path(MATRIX_FIXTURES) / "lora" / name;
}

/// Normal values that depend on `name` and `shape` alone.
inline at::Tensor values(const std::string& name, at::IntArrayRef shape) {
    at::Generator generator = at::detail::getDefaultCPUGenerator().clone();
    generator.set_current_seed(std::hash<std::string>{}(name));
    return at::randn(shape, generator, at::kFloat);
}

/// The architecture of 5B-I2V, tiny: 3 blocks of 2 heads of 16, learned positions and rotary.
/// `temporal_patches` as in 1.5, whose projection is a linear.
inline models::CogVideoXConfig tiny_config(bool temporal_patches = false) {
    models::CogVideoXConfig config;
    config.num_attention_heads = 2;
    config.attention_head_dim = 16;
    config.in_channels = 32;
    config.out_channels = 16;
    config.time_embed_dim = 8;
    config.text_embed_dim = 8;
    config.num_layers = 3;
    config.sample_width = 4;
    config.sample_height = 4;
    config.sample_frames = 5;
    config.max_text_seq_length = 4;
    config.use_rotary_positional_embeddings = true;
    config.use_learned_positional_embeddings = !temporal_patches;
    if (temporal_patches) {
        config.patch_size_t = 2;
    }
    return config;
}

inline std::unique_ptr<models::CogVideoXTransformer> tiny_model(bool temporal_patches = false) {
    tensor_io::GeneratedWeights weights(
        [](const std::string& key, at::IntArrayRef shape) { return values(key, shape) * 0.1; });
    return std::make_unique<models::CogVideoXTransformer>(tiny_config(temporal_patches), weights);
}

/// Two latent frames of 4 x 4.
inline models::BackboneInput tiny_input(std::int64_t channels) {
    models::BackboneInput input;
    input.hidden_states = values("hidden_states", {1, 2, 48, 4, 4}).narrow(2, 0, channels);
    input.encoder_hidden_states = values("encoder_hidden_states", {1, 4, 8});
    input.timestep = at::full({1}, 500, at::kLong);
    return input;
}

inline at::Tensor forward(const models::CogVideoXTransformer& model) {
    models::ForwardOptions options;
    options.keep = {nn::Keep::kGraph};
    return model.forward(tiny_input(model.in_channels()), options).sample.detach();
}

/// A delta with nothing zero in it.
inline nn::LowRankDelta random_delta(const std::string& name, std::int64_t out,
                                     std::vector<std::int64_t> in, std::int64_t rank,
                                     double scale) {
    std::vector<std::int64_t> b_shape(in.size() + 1, 1);
    b_shape[0] = out;
    b_shape[1] = rank;
    in.insert(in.begin(), rank);
    return {values(name + ".a", in), values(name + ".b", b_shape), scale};
}

/// scale B A, [out, in] in float64.
inline at::Tensor applied(const nn::LowRankDelta& delta) {
    return at::mm(delta.b.to(at::kDouble).flatten(1), delta.a.to(at::kDouble).flatten(1)) *
           delta.scale;
}

}  // namespace matrix::lora::testing
