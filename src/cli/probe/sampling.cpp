#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/probe/parts.h"
#include "matrix/core/error.h"
#include "matrix/lora/adapter.h"
#include "matrix/models/cogvideox.h"
#include "matrix/pipeline/denoise.h"

namespace matrix::cli::probe {
namespace {

using diffusion::Sampler;
using diffusion::SamplerKind;

Sampler make_sampler(const Request& request, bool dpm) {
    const auto config = diffusion::SchedulerConfig::from_file(request.component("scheduler") /
                                                              "scheduler_config.json");
    if (request.steps < 1 || request.steps > config.num_train_timesteps) {
        throw UsageError("--steps: " + std::to_string(request.steps) + " is outside 1.." +
                         std::to_string(config.num_train_timesteps));
    }
    return {config, dpm ? SamplerKind::kDpm : SamplerKind::kDdim, request.steps};
}

/// What DPM takes beside the sample, K steps of it.
struct DpmInputs {
    at::Tensor noise1, noise2, old_x0;  // [K, ...]
    at::Tensor has_old_x0;              // [K] uint8
};

std::size_t place_of(std::int64_t timestep, const std::vector<std::int64_t>& timesteps,
                     const Inputs& in) {
    const auto found = std::find(timesteps.begin(), timesteps.end(), timestep);
    if (found == timesteps.end()) {
        in.fail("timestep", std::to_string(timestep) + " is not in the timetable of " +
                                std::to_string(timesteps.size()) + " steps");
    }
    return static_cast<std::size_t>(found - timesteps.begin());
}

pipeline::Perturbation perturbation_of(const Request& request, const Inputs& in,
                                       const models::Backbone& model, const at::Tensor& latents,
                                       std::int64_t text_tokens) {
    pipeline::Perturbation perturbation;
    perturbation.scale = request.perturbation_scale;
    perturbation.cmg_blocks = request.cmg_blocks;
    perturbation.cag_blocks = request.cag_blocks;
    if (!std::isfinite(perturbation.scale)) {
        throw UsageError("--perturbation-scale: is not a finite number");
    }
    for (const auto& [flag, blocks] : {std::pair("--cmg-blocks", request.cmg_blocks),
                                       std::pair("--cag-blocks", request.cag_blocks)}) {
        for (const std::int64_t block : blocks) {
            if (block < 0 || block >= model.num_blocks()) {
                throw UsageError(std::string(flag) + ": the model has no block " +
                                 std::to_string(block));
            }
        }
    }
    if (!request.cmg_blocks.empty()) {
        const nn::TokenLayout layout =
            model.layout(latents.size(1), latents.size(3), latents.size(4), text_tokens);
        perturbation.grounding =
            in.integers("grounding", {layout.video_tokens(), text_tokens}, at::kByte).ne(0);
    }
    return perturbation;
}

}  // namespace

Result run_scheduler_step(const Request& request) {
    const bool dpm = request.part == "scheduler.dpm";
    const Sampler sampler = make_sampler(request, dpm);
    const Inputs in(request);
    const at::Tensor timestep = in.integers("timestep", {-1}, at::kLong).cpu();
    const at::Tensor sample = in.any_floating("sample", at::kFloat);  // [K, ...]
    if (sample.dim() < 1 || sample.size(0) != timestep.size(0)) {
        in.fail("sample",
                "its first size must be that of timestep, " + std::to_string(timestep.size(0)));
    }
    const at::Tensor v = in.floating("model_output", sample.sizes(), at::kFloat);
    DpmInputs with;
    if (dpm) {
        with.noise1 = in.floating("noise1", sample.sizes(), at::kFloat);
        with.noise2 = in.floating("noise2", sample.sizes(), at::kFloat);
        with.old_x0 = in.floating("old_x0", sample.sizes(), at::kFloat);
        with.has_old_x0 = in.integers("has_old_x0", {timestep.size(0)}, at::kByte).cpu();
    }

    Result result;
    at::Tensor prev = at::empty_like(sample), x0 = at::empty_like(sample);
    for (std::int64_t k = 0; k < timestep.size(0); ++k) {
        const std::size_t place =
            place_of(timestep[k].item<std::int64_t>(), sampler.timesteps(), in);
        const bool has_old = dpm && with.has_old_x0[k].item<bool>();
        if (has_old && place == 0) {
            in.fail("has_old_x0", "is 1 at the first timestep, which has none before it");
        }
        int draws = 0;
        const auto draw = [&] { return draws++ == 0 ? with.noise1[k] : with.noise2[k]; };
        const Sampler::Result step =
            sampler.step(place, v[k], sample[k], has_old ? with.old_x0[k] : at::Tensor(), draw);
        prev[k].copy_(step.prev_sample);
        x0[k].copy_(step.x0);
    }
    result.outputs["prev_sample"] = prev;
    result.outputs["x0"] = x0;
    result.outputs["timesteps"] = at::tensor(sampler.timesteps(), at::kLong);
    result.outputs["alphas_cumprod"] = at::tensor(sampler.schedule().alphas_cumprod(), at::kDouble);
    return result;
}

Result run_sample(const Request& request) {
    const bool dpm = request.scheduler == "dpm";
    if (!std::isfinite(request.guidance)) {
        throw UsageError("--guidance: is not a finite number");
    }
    const Sampler sampler = make_sampler(request, dpm);
    const Inputs in(request);
    const auto model = models::load_cogvideox(request.model, request.dtype(), request.device());
    if (!request.adapter.empty()) {
        lora::attach(*model, lora::read_adapter(request.adapter), false);
    }
    const models::CogVideoXConfig& config = model->config();
    const std::int64_t channels = config.out_channels, num_parts = config.in_channels / channels;

    const at::Tensor noise = in.floating("latents", {-1, -1, channels, -1, -1});
    pipeline::Guidance guidance{request.guidance, request.dynamic_cfg};
    pipeline::Conditions conditions;
    if (num_parts > 1) {
        conditions.image_latents = in.floating("image_latents", noise.sizes());
    }
    if (num_parts > 2) {
        conditions.id_map_latents = in.floating("id_map_latents", noise.sizes());
    }
    const std::vector<std::int64_t> text = {noise.size(0), -1, config.text_embed_dim};
    conditions.prompt = in.floating("encoder_hidden_states", text);
    if (guidance.runs()) {
        conditions.negative_prompt =
            in.floating("negative_encoder_hidden_states", conditions.prompt.sizes());
    }
    guidance.perturbation = perturbation_of(request, in, *model, noise, conditions.prompt.size(1));
    at::Tensor noise1, noise2;  // [n, B, F, 16, h, w]
    if (dpm) {
        std::vector<std::int64_t> draws = noise.sizes().vec();
        draws.insert(draws.begin(), request.steps);
        noise1 = in.floating("noise1", draws);
        noise2 = in.floating("noise2", draws);
    }
    std::optional<std::size_t> last;
    const auto draw = [&](std::size_t step) {
        const bool second = last == step;
        last = step;
        return (second ? noise2 : noise1)[static_cast<std::int64_t>(step)];
    };
    Result result;
    try {
        result.outputs["latents"] =
            pipeline::denoise(*model, sampler, noise, conditions, guidance, draw);
    } catch (const RunError& error) {
        // The model's name for what the latents became.
        const std::string fault = error.what(), name = "hidden_states: ";
        if (!fault.starts_with(name)) {
            throw;
        }
        in.fail("latents", "in the model's input, " + fault.substr(name.size()));
    }
    return result;
}

}  // namespace matrix::cli::probe
