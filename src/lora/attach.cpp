#include <ATen/ATen.h>

#include <cmath>

#include "matrix/core/error.h"
#include "matrix/core/random.h"
#include "matrix/core/shape.h"
#include "lora/names.h"
#include "matrix/lora/adapter.h"

namespace matrix::lora {
namespace {


bool targeted(const std::string& linear, const LoraConfig& config) {
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

at::TensorOptions master_options(const nn::Linear& linear) { return linear.weight.options().dtype(at::kFloat); }

nn::LowRankDelta new_delta(const nn::Linear& linear, const std::string& name, const LoraConfig& config,
                           std::uint64_t seed) {
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

void check_fits(const std::string& name, const nn::Linear& linear, const nn::LowRankDelta& delta) {
    const std::int64_t rank = delta.a.size(0);
    std::vector<std::int64_t> a_shape = linear.weight.sizes().vec();
    std::vector<std::int64_t> b_shape(a_shape.size(), 1);
    b_shape[0] = a_shape[0];
    b_shape[1] = rank;
    a_shape[0] = rank;
    expect_shape(delta.a, a_shape, "transformer." + name + ".lora_A.weight");
    expect_shape(delta.b, b_shape, "transformer." + name + ".lora_B.weight");
}

at::Tensor as_parameter(const at::Tensor& tensor, const nn::Linear& linear, bool trainable) {
    return tensor.to(master_options(linear), false, true).set_requires_grad(trainable);
}

}  // namespace

void attach_new(nn::Adaptable& model, const LoraConfig& config, std::uint64_t seed) {
    for (const auto& [name, linear] : model.adaptable_linears()) {
        if (targeted(name, config)) {
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

void attach(nn::Adaptable& model, const Adapter& adapter, bool trainable) {
    const std::int64_t trained_channels = adapter.info.in_channels;
    if (trained_channels > model.in_channels()) {
        model.widen_input(trained_channels);
    }
    const std::map<std::string, nn::Linear*> linears = model.adaptable_linears();
    for (const auto& [name, delta] : adapter.deltas) {
        const auto found = linears.find(name);
        if (found == linears.end()) {
            throw RunError("adapter: transformer." + name + ": the model has no such linear (it has " +
                           std::to_string(model.num_blocks()) + " blocks)");
        }
        check_fits(name, *found->second, delta);
        found->second->delta = nn::LowRankDelta{as_parameter(delta.a, *found->second, trainable),
                                                as_parameter(delta.b, *found->second, trainable), delta.scale};
    }
    nn::Linear& projection = model.input_projection();
    if (adapter.projection_weight.defined()) {
        expect_shape(adapter.projection_weight, projection.weight.sizes(), "patch_embed.proj.weight");
        projection.weight = as_parameter(adapter.projection_weight, projection, trainable);
    }
    if (adapter.projection_bias.defined()) {
        expect_shape(adapter.projection_bias, {projection.out_features()}, "patch_embed.proj.bias");
        projection.bias = as_parameter(adapter.projection_bias, projection, trainable);
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
            add("transformer." + name + ".lora_A.weight", linear->delta->a);
            add("transformer." + name + ".lora_B.weight", linear->delta->b);
        }
    }
    const nn::Linear& projection = model.input_projection();
    add("transformer.patch_embed.proj.weight", projection.weight);
    add("transformer.patch_embed.proj.bias", projection.bias);
    return parameters;
}

Adapter collect(nn::Adaptable& model, const AdapterInfo& info) {
    const auto value = [](const at::Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kFloat); };
    Adapter adapter;
    adapter.info = info;
    for (const auto& [name, linear] : model.adaptable_linears()) {
        if (linear->delta) {
            adapter.deltas[name] = {value(linear->delta->a), value(linear->delta->b), linear->delta->scale};
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
