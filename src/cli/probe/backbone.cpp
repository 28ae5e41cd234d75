#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "cli/probe/parts.h"
#include "matrix/core/error.h"
#include "matrix/lora/adapter.h"
#include "matrix/models/cogvideox.h"

namespace matrix::cli::probe {
namespace {

// Bounds of a rotary table's sizes, in latents: far above any video, and a table of them is 2 GiB
// at most.
constexpr std::int64_t kMaxRopeFrames = 1 << 14;
constexpr std::int64_t kMaxRopeSide = 4096;
constexpr std::int64_t kMaxRopeElements = std::int64_t{1} << 28;

void check_side(const std::string& flag, std::int64_t value, std::int64_t patch,
                std::int64_t maximum) {
    if (value < patch || value > maximum || value % patch != 0) {
        throw UsageError(flag + ": " + std::to_string(value) + " is not a multiple of " +
                         std::to_string(patch) + " in " + std::to_string(patch) + ".." +
                         std::to_string(maximum));
    }
}

double read_ofs(const Inputs& inputs, const models::CogVideoXConfig& config) {
    constexpr double kDefault = 2.0;
    return config.ofs_embed_dim ? inputs.floating("ofs", {1}, at::kDouble).item<double>()
                                : kDefault;
}

}  // namespace

Result run_transformer(const Request& request) {
    const Inputs in(request);
    const auto model = models::load_cogvideox(request.model, request.dtype(), request.device());
    if (!request.adapter.empty()) {
        lora::attach(*model, lora::read_adapter(request.adapter), request.grad);
    }
    const models::CogVideoXConfig& config = model->config();

    models::BackboneInput input;
    input.hidden_states =
        leaf(in.floating("hidden_states", {-1, -1, config.in_channels, -1, -1}), request);
    const at::IntArrayRef sizes = input.hidden_states.sizes();
    const std::int64_t batch = sizes[0];
    input.encoder_hidden_states =
        leaf(in.floating("encoder_hidden_states", {batch, -1, config.text_embed_dim}), request);
    input.timestep = in.integers("timestep", {batch}, at::kLong);
    input.ofs = read_ofs(in, config);
    at::Tensor cotangent;
    if (request.grad) {
        cotangent =
            in.floating("cotangent", {batch, sizes[1], config.out_channels, sizes[3], sizes[4]});
    }

    const at::AutoGradMode grad_mode(request.grad);
    const at::Tensor sample = model->forward(input, {}).sample;  // [B, F, 16, h, w]
    Result result;
    result.outputs["sample"] = sample.detach();
    if (request.grad) {
        std::map<std::string, at::Tensor> leaves = lora::trained_parameters(*model);
        leaves["hidden_states"] = input.hidden_states;
        leaves["encoder_hidden_states"] = input.encoder_hidden_states;
        std::vector<at::Tensor> tensors;
        for (const auto& [name, tensor] : leaves) {
            tensors.push_back(tensor);
        }
        const std::vector<at::Tensor> grads = gradients(sample, cotangent, tensors);
        auto gradient = grads.begin();
        for (const auto& [name, tensor] : leaves) {
            result.outputs["grad." + name] = *gradient++;
        }
    }
    return result;
}

Result run_rope(const Request& request) {
    const auto config =
        models::CogVideoXConfig::from_file(request.component("transformer") / "config.json");
    check_side("--frames", request.frames, 1, kMaxRopeFrames);
    check_side("--height", request.height, config.patch_size, kMaxRopeSide);
    check_side("--width", request.width, config.patch_size, kMaxRopeSide);
    if (config.attention_head_dim % 16 != 0) {  // a model without the table may have it
        throw RunError(
            "transformer/config.json: attention_head_dim: a rotary table wants a "
            "multiple of 16, got " +
            std::to_string(config.attention_head_dim));
    }
    const std::int64_t tokens =
        request.frames * (request.height / config.patch_size) * (request.width / config.patch_size);
    if (tokens > kMaxRopeElements / config.attention_head_dim) {
        throw UsageError("--frames: " + std::to_string(tokens) +
                         " tokens are more than a rotary table may have");
    }
    const models::RotaryTable table =
        models::rotary_table(config, request.frames, request.height, request.width);
    Result result;
    result.outputs["cos"] = table.cos;
    result.outputs["sin"] = table.sin;
    if (table.crop) {
        result.outputs["crop"] = at::tensor(at::ArrayRef<std::int64_t>(*table.crop), at::kLong);
    }
    return result;
}

}  // namespace matrix::cli::probe
