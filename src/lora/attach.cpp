#include <ATen/ATen.h>

#include <cmath>

#include "lora/dialect.h"
#include "lora/names.h"
#include "lora/targets.h"
#include "matrix/core/error.h"
#include "matrix/core/random.h"
#include "matrix/core/shape.h"
#include "matrix/lora/adapter.h"

namespace matrix::lora {

bool is_target(const std::string& linear, const LoraConfig& config) {
    if (linear == kProjection) {
        return config.input_projection == "lora";
    }
    for (const std::int64_t block : config.blocks) {
        const std::string prefix = "transformer_blocks." + std::to_string(block) + ".";
        for (const std::string& target : config.targets) {
            if (linear.rfind(prefix, 0) == 0 && linear.ends_with("." + target)) {
                return true;
            }
        }
    }
    return false;
}

namespace {

at::TensorOptions master_options(const nn::Linear& linear) {
    return linear.weight.options().dtype(at::kFloat);
}

nn::LowRankDelta new_delta(const nn::Linear& linear, const std::string& name,
                           const LoraConfig& config, std::uint64_t seed) {
    std::vector<std::int64_t> a_shape = linear.weight.sizes().vec();
    std::vector<std::int64_t> b_shape(a_shape.size(), 1);
    b_shape[0] = a_shape[0];
    b_shape[1] = config.rank;
    a_shape[0] = config.rank;
    const double bound = 1.0 / std::sqrt(static_cast<double>(linear.in_features()));
    at::Generator generator = keyed_generator(seed, Purpose::kLoraInit, name_key(name));
    const at::Tensor a = at::empty(a_shape, at::kFloat).uniform_(-bound, bound, generator);
    nn::LowRankDelta delta;
    delta.a = a.to(linear.weight.device()).set_requires_grad(true);
    delta.b = at::zeros(b_shape, master_options(linear)).set_requires_grad(true);
    delta.scale = config.scale();
    return delta;
}

/// The shape of the input projection's weight at `channels` input channels, which are the slowest
/// of its columns.
std::vector<std::int64_t> projection_shape(nn::Adaptable& model, std::int64_t channels) {
    std::vector<std::int64_t> shape = model.input_projection().weight.sizes().vec();
    shape[1] = shape[1] / model.in_channels() * channels;
    return shape;
}

/// Input channels of the model under `adapter`: one that was trained with an ID map has half as
/// many again.
std::int64_t channels_with(nn::Adaptable& model, const Adapter& adapter) {
    const std::int64_t channels = model.in_channels(), with_id_map = channels / 2 * 3;
    const auto delta = adapter.deltas.find(kProjection);
    const at::Tensor& columns =
        delta != adapter.deltas.end() ? delta->second.a : adapter.projection_weight;
    return columns.defined() && columns.dim() > 1 &&
                   columns.size(1) == projection_shape(model, with_id_map)[1]
               ? with_id_map
               : channels;
}

void check_columns(const std::string& key, const at::Tensor& tensor, at::IntArrayRef projection,
                   std::int64_t channels) {
    if (tensor.dim() == static_cast<std::int64_t>(projection.size()) &&
        tensor.size(1) != projection[1]) {
        throw RunError("adapter: " + key + ": shape " + shape_text(tensor.sizes()) +
                       " does not fit a model with " + std::to_string(channels) +
                       " input channels, whose projection is " + shape_text(projection));
    }
}

void check_delta(const std::string& name, const nn::LowRankDelta& delta, at::IntArrayRef weight) {
    const std::int64_t rank = delta.a.size(0);
    std::vector<std::int64_t> a_shape = weight.vec();
    std::vector<std::int64_t> b_shape(a_shape.size(), 1);
    b_shape[0] = a_shape[0];
    b_shape[1] = rank;
    a_shape[0] = rank;
    expect_shape(delta.a, a_shape, "adapter: " + a_key(name));
    expect_shape(delta.b, b_shape, "adapter: " + b_key(name));
}

/// RunError unless everything of `adapter` fits the model at `channels` input channels.
void check_fits(nn::Adaptable& model, const Adapter& adapter, std::int64_t channels) {
    const std::map<std::string, nn::Linear*> linears = model.adaptable_linears();
    const std::vector<std::int64_t> projection = projection_shape(model, channels);
    for (const auto& [name, delta] : adapter.deltas) {
        const auto found = linears.find(name);
        if (found == linears.end() && of_other_programs(name)) {
            throw RunError("adapter: " + a_key(name) + ": " + not_applied_text(name));
        }
        if (found == linears.end()) {
            throw RunError("adapter: " + a_key(name) + ": the model has no such linear (it has " +
                           std::to_string(model.num_blocks()) + " blocks)");
        }
        if (name == kProjection) {
            check_columns(a_key(name), delta.a, projection, channels);
        }
        check_delta(name, delta, name == kProjection ? projection : found->second->weight.sizes());
    }
    if (adapter.projection_weight.defined()) {
        check_columns("patch_embed.proj.weight", adapter.projection_weight, projection, channels);
        expect_shape(adapter.projection_weight, projection, "adapter: patch_embed.proj.weight");
    }
    if (adapter.projection_bias.defined()) {
        if (!model.input_projection().bias.defined()) {
            throw RunError("adapter: patch_embed.proj.bias: the model's projection has no bias");
        }
        expect_shape(adapter.projection_bias, {projection[0]}, "adapter: patch_embed.proj.bias");
    }
}

at::Tensor as_parameter(const at::Tensor& tensor, const nn::Linear& linear, bool trainable) {
    return tensor.to(master_options(linear), false, true).set_requires_grad(trainable);
}

/// The way from `base` to `trained`, of which `strength` is gone.
at::Tensor between(const at::Tensor& base, const at::Tensor& trained, double strength) {
    return strength == 1.0
               ? trained
               : at::lerp(base.to(at::kFloat), trained.to(base.device(), at::kFloat), strength);
}

}  // namespace

void attach_new(nn::Adaptable& model, const LoraConfig& config, std::uint64_t seed) {
    for (const auto& [name, linear] : model.adaptable_linears()) {
        if (is_target(name, config)) {
            linear->delta = new_delta(*linear, name, config, seed);
        }
    }
    if (config.input_projection == "full") {
        nn::Linear& projection = model.input_projection();
        projection.weight = as_parameter(projection.weight, projection, true);
        if (projection.bias.defined()) {
            projection.bias = as_parameter(projection.bias, projection, true);
        }
    }
}

void attach(nn::Adaptable& model, const Adapter& adapter, bool trainable, double strength) {
    const std::int64_t channels = channels_with(model, adapter);
    check_fits(model, adapter, channels);
    model.widen_input(channels);
    const std::map<std::string, nn::Linear*> linears = model.adaptable_linears();
    for (const auto& [name, delta] : adapter.deltas) {
        nn::Linear& linear = *linears.at(name);
        linear.delta =
            nn::LowRankDelta{as_parameter(delta.a, linear, trainable),
                             as_parameter(delta.b, linear, trainable), delta.scale * strength};
    }
    nn::Linear& projection = model.input_projection();
    if (adapter.projection_weight.defined()) {
        projection.weight = as_parameter(
            between(projection.weight, adapter.projection_weight, strength), projection, trainable);
    }
    if (adapter.projection_bias.defined()) {
        projection.bias = as_parameter(between(projection.bias, adapter.projection_bias, strength),
                                       projection, trainable);
    }
}

std::map<std::string, at::Tensor> trained_parameters(nn::Adaptable& model) {
    std::map<std::string, at::Tensor> parameters;
    const auto add = [&](const std::string& name, const at::Tensor& tensor) {
        if (tensor.defined() && tensor.requires_grad()) {
            parameters[name] = tensor;
        }
    };
    for (const auto& [name, linear] : model.adaptable_linears()) {
        if (linear->delta) {
            add(a_key(name), linear->delta->a);
            add(b_key(name), linear->delta->b);
        }
    }
    const nn::Linear& projection = model.input_projection();
    add(weight_key(kProjection), projection.weight);
    add(bias_key(kProjection), projection.bias);
    return parameters;
}

Adapter collect(nn::Adaptable& model, const AdapterInfo& info) {
    const auto value = [](const at::Tensor& tensor) {
        return tensor.detach().to(at::kCPU, at::kFloat);
    };
    Adapter adapter;
    adapter.info = info;
    for (const auto& [name, linear] : model.adaptable_linears()) {
        if (linear->delta) {
            adapter.deltas[name] = {value(linear->delta->a), value(linear->delta->b),
                                    linear->delta->scale};
        }
    }
    const nn::Linear& projection = model.input_projection();
    if (projection.weight.requires_grad()) {
        adapter.projection_weight = value(projection.weight);
        adapter.projection_bias = projection.bias.defined() ? value(projection.bias) : at::Tensor();
    }
    return adapter;
}

}  // namespace matrix::lora
