#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "matrix/core/random.h"
#include "matrix/models/cogvideox.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::models::testing {

/// Normal values that depend on the name alone.
inline at::Tensor random_tensor(at::IntArrayRef shape, const std::string& name) {
    return keyed_normal(shape, 0, Purpose::kModelInit, name_key(name));
}

/// Three blocks of four heads; its sequences have 8 text rows and 6 of every latent frame.
inline CogVideoXConfig random_config() {
    CogVideoXConfig config;
    config.num_attention_heads = 4;
    config.attention_head_dim = 16;
    config.in_channels = 16;
    config.time_embed_dim = 12;
    config.text_embed_dim = 10;
    config.num_layers = 3;
    config.sample_width = 6;
    config.sample_height = 4;
    config.sample_frames = 9;
    config.max_text_seq_length = 8;
    config.use_rotary_positional_embeddings = true;
    return config;
}

/// Equal configs give equal weights, wherever they are held.
inline CogVideoXTransformer random_model(
    const CogVideoXConfig& config, std::unique_ptr<BlockWeights> block_weights = resident_blocks(),
    at::ScalarType dtype = at::kFloat) {
    tensor_io::GeneratedWeights weights([dtype](const std::string& key, at::IntArrayRef shape) {
        const at::Tensor values = random_tensor(shape, key);
        const bool is_norm_weight = shape.size() == 1 && key.ends_with(".weight");
        return (is_norm_weight     ? 1 + 0.3 * values
                : shape.size() > 1 ? values / std::sqrt(values[0].numel())
                                   : 0.3 * values)
            .to(dtype);
    });
    return {config, weights, std::move(block_weights)};
}

/// Low-rank factors on every linear, and the input projection, requiring gradients; by name.
inline std::map<std::string, at::Tensor> attach_random_lora(CogVideoXTransformer& model) {
    std::map<std::string, at::Tensor> leaves;
    for (const auto& [name, linear] : model.adaptable_linears()) {
        if (linear == &model.input_projection()) {
            linear->weight = linear->weight.detach().clone().set_requires_grad(true);
            leaves[name] = linear->weight;
            continue;
        }
        const at::Tensor a = random_tensor({2, linear->in_features()}, name + ".A") / 8;
        const at::Tensor b = random_tensor({linear->out_features(), 2}, name + ".B") / 2;
        linear->delta = nn::LowRankDelta{a.clone().set_requires_grad(true),
                                         b.clone().set_requires_grad(true), 0.75};
        leaves[name + ".A"] = linear->delta->a;
        leaves[name + ".B"] = linear->delta->b;
    }
    return leaves;
}

/// Two clips of three latent frames for random_config().
inline BackboneInput random_input() {
    return {random_tensor({2, 3, 16, 4, 6}, "hidden_states"),
            random_tensor({2, 8, 10}, "encoder_hidden_states"), at::tensor({150, 800}, at::kLong)};
}

/// The sample of random_input(), in the model's dtype, and the gradients of a LoRA and the input
/// projection, by name.
inline std::map<std::string, at::Tensor> differentiated(CogVideoXTransformer& model,
                                                        nn::Keep keep) {
    const auto leaves = attach_random_lora(model);
    BackboneInput input = random_input();
    input.hidden_states = input.hidden_states.to(model.dtype());
    input.encoder_hidden_states = input.encoder_hidden_states.to(model.dtype());
    const BackboneOutput output = model.forward(input, {{}, {keep}, nullptr});
    torch::autograd::backward(
        {output.sample}, {random_tensor(output.sample.sizes(), "cotangent").to(model.dtype())});
    std::map<std::string, at::Tensor> values = {{"sample", output.sample.detach()}};
    for (const auto& [name, leaf] : leaves) {
        values[name] = leaf.grad();
    }
    return values;
}

}  // namespace matrix::models::testing
