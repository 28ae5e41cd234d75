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

/// v in float32 of latents [B, F, C, h, w], under prompts [num_halves B, L, D].
at::Tensor predict(const models::Backbone& backbone, const at::Tensor& latents,
                   const Conditions& conditions, const at::Tensor& prompts, std::int64_t num_halves,
                   std::int64_t timestep) {
    std::vector<at::Tensor> channels = {latents};
    for (const at::Tensor& condition : {conditions.image_latents, conditions.id_map_latents}) {
        if (condition.defined()) {
            channels.push_back(condition);
        }
    }
    const at::Tensor one = at::cat(channels, 2);  // [B, F, n C, h, w]
    models::BackboneInput input;
    input.hidden_states = one.repeat({num_halves, 1, 1, 1, 1});
    input.encoder_hidden_states = prompts;
    input.timestep = at::full({prompts.size(0)}, timestep, latents.options().dtype(at::kLong));
    return backbone.forward(input, {}).sample.to(at::kFloat);
}

/// v after guidance; `scale` is the step's.
at::Tensor guided(const models::Backbone& backbone, const at::Tensor& latents,
                  const Conditions& conditions, const Guidance& guidance, double scale,
                  std::int64_t timestep) {
    const auto predicted = [&](const at::Tensor& prompts, std::int64_t num_halves = 1) {
        return predict(backbone, latents, conditions, prompts, num_halves, timestep);
    };
    if (!guidance.runs()) {
        return predicted(conditions.prompt);
    }
    at::Tensor negative, positive;
    if (guidance.batched) {
        const auto halves =
            predicted(at::cat({conditions.negative_prompt, conditions.prompt}), 2).chunk(2);
        negative = halves[0];
        positive = halves[1];
    } else {
        negative = predicted(conditions.negative_prompt);
        positive = predicted(conditions.prompt);
    }
    return negative + scale * (positive - negative);
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
