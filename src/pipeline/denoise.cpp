#include "matrix/pipeline/denoise.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <string>
#include <utility>
#include <vector>

#include "matrix/core/error.h"
#include "matrix/core/shape.h"

namespace matrix::pipeline {
namespace {

void check_shapes(const at::Tensor& noise, const Conditions& conditions, const Guidance& guidance) {
    expect_shape(noise, {-1, -1, -1, -1, -1}, "latents");
    if (noise.numel() == 0) {
        throw RunError("latents: " + shape_text(noise.sizes()) + " is empty");
    }
    for (const auto& [name, condition] : {std::pair("image_latents", conditions.image_latents),
                                          std::pair("id_map_latents", conditions.id_map_latents)}) {
        if (condition.defined()) {
            expect_shape(condition, noise.sizes(), name);
        }
    }
    expect_shape(conditions.prompt, {noise.size(0), -1, -1}, "prompt");
    if (guidance.runs()) {
        expect_shape(conditions.negative_prompt, conditions.prompt.sizes(), "negative prompt");
    }
}

/// v in float32 of latents [B, F, C, h, w], under prompts [num_passes B, L, D], the last of them
/// the perturbed pass where there is a perturbation.
at::Tensor predict(const models::Backbone& backbone, const at::Tensor& latents,
                   const Conditions& conditions, const at::Tensor& prompts, std::int64_t num_passes,
                   const Perturbation* perturbation, std::int64_t timestep) {
    std::vector<at::Tensor> channels = {latents};
    for (const at::Tensor& condition : {conditions.image_latents, conditions.id_map_latents}) {
        if (condition.defined()) {
            channels.push_back(condition);
        }
    }
    const at::Tensor one = at::cat(channels, 2);  // [B, F, n C, h, w]
    models::BackboneInput input;
    input.hidden_states = one.repeat({num_passes, 1, 1, 1, 1});
    input.encoder_hidden_states = prompts;
    input.timestep = at::full({prompts.size(0)}, timestep, latents.options().dtype(at::kLong));
    models::ForwardOptions options;
    if (perturbation != nullptr) {
        options.edits = perturbation->edits(prompts.size(0) - latents.size(0));
    }
    return backbone.forward(input, options).sample.to(at::kFloat);
}

/// v after guidance; `scale` is the step's.
at::Tensor guided(const models::Backbone& backbone, const at::Tensor& latents,
                  const Conditions& conditions, const Guidance& guidance, double scale,
                  std::int64_t timestep) {
    std::vector<at::Tensor> prompts;
    if (guidance.runs()) {
        prompts.push_back(conditions.negative_prompt);
    }
    prompts.push_back(conditions.prompt);
    const Perturbation* perturbation =
        guidance.perturbation.runs() ? &guidance.perturbation : nullptr;
    if (perturbation != nullptr) {
        prompts.push_back(conditions.prompt);
    }
    const std::size_t num_passes = prompts.size();
    std::vector<at::Tensor> passes;
    if (guidance.batched) {
        const auto count = static_cast<std::int64_t>(num_passes);
        passes =
            predict(backbone, latents, conditions, at::cat(prompts), count, perturbation, timestep)
                .chunk(count);
    } else {
        for (std::size_t i = 0; i < num_passes; ++i) {
            passes.push_back(predict(backbone, latents, conditions, prompts[i], 1,
                                     i + 1 == num_passes ? perturbation : nullptr, timestep));
        }
    }
    const at::Tensor& positive = passes[guidance.runs() ? 1 : 0];
    const at::Tensor v = guidance.runs() ? passes[0] + scale * (positive - passes[0]) : positive;
    return perturbation == nullptr ? v : v + perturbation->scale * (positive - passes.back());
}

}  // namespace

at::Tensor denoise(const models::Backbone& backbone, const diffusion::Sampler& sampler,
                   const at::Tensor& noise, const Conditions& conditions, const Guidance& guidance,
                   const DrawNoise& draw, const std::function<void(std::int64_t steps)>& done) {
    const at::NoGradGuard no_grad;
    check_shapes(noise, conditions, guidance);
    const std::vector<std::int64_t>& timesteps = sampler.timesteps();
    const auto num_steps = static_cast<std::int64_t>(timesteps.size());
    at::Tensor latents = noise, old_x0;
    for (std::size_t i = 0; i < timesteps.size(); ++i) {
        const double scale =
            guidance.dynamic ? diffusion::dynamic_guidance(guidance.scale, num_steps, timesteps[i])
                             : guidance.scale;
        const at::Tensor v = guided(backbone, latents, conditions, guidance, scale, timesteps[i]);
        const diffusion::Sampler::Result step =
            sampler.step(i, v, latents, old_x0, [&] { return draw(i); });
        latents = step.prev_sample.to(conditions.prompt.scalar_type());
        old_x0 = step.x0;
        if (done) {
            done(static_cast<std::int64_t>(i) + 1);
        }
    }
    return latents;
}

}  // namespace matrix::pipeline
