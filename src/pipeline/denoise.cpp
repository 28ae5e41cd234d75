#include "matrix/pipeline/denoise.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <map>
#include <optional>
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

/// The listener's taps on `count` rows of a larger batch, from `begin` on.
std::map<std::int64_t, nn::Tap> on_rows(const std::map<std::int64_t, nn::Tap>& taps,
                                        std::int64_t begin, std::int64_t count) {
    std::map<std::int64_t, nn::Tap> narrowed;
    for (const auto& [block, tap] : taps) {
        narrowed[block] = nn::Tap(
            [=](const nn::TapInput& input) {
                return tap({input.query.narrow(0, begin, count), input.key.narrow(0, begin, count),
                            input.log_sum_exp.narrow(0, begin, count), input.layout});
            },
            tap.over_heads);
    }
    return narrowed;
}

/// One step's predictions.
struct Step {
    const models::Backbone& backbone;
    const Conditions& conditions;
    const AttentionListener* listener;
    const at::Tensor& latents;
    std::size_t number;
    std::int64_t timestep;

    /// A forward under `prompts`, [B, L, D] each.
    struct Passes {
        std::vector<at::Tensor> prompts;
        std::optional<std::int64_t> heard = {};  ///< whose attention the listener gets
        const Perturbation* last = nullptr;      ///< of the last
    };
    /// v in float32, [passes B, F, C, h, w].
    [[nodiscard]] at::Tensor predict(const Passes& passes) const;
    /// v after guidance; `scale` is the step's.
    [[nodiscard]] at::Tensor guided(const Guidance& guidance, double scale) const;
};

at::Tensor Step::predict(const Passes& passes) const {
    std::vector<at::Tensor> channels = {latents};
    for (const at::Tensor& condition : {conditions.image_latents, conditions.id_map_latents}) {
        if (condition.defined()) {
            channels.push_back(condition);
        }
    }
    const at::Tensor one = at::cat(channels, 2);  // [B, F, n C, h, w]
    const std::int64_t batch = latents.size(0);
    const auto count = static_cast<std::int64_t>(passes.prompts.size());
    models::BackboneInput input;
    input.hidden_states = one.repeat({count, 1, 1, 1, 1});
    input.encoder_hidden_states = at::cat(passes.prompts);
    input.timestep = at::full({count * batch}, timestep, latents.options().dtype(at::kLong));
    models::ForwardOptions options;
    if (passes.last != nullptr) {
        options.edits = passes.last->edits((count - 1) * batch);
    }
    const bool heard = listener != nullptr && passes.heard;
    if (heard) {
        options.taps = on_rows(listener->taps, *passes.heard * batch, batch);
    }
    const models::BackboneOutput output = backbone.forward(input, options);
    if (heard) {
        listener->heard(number, timestep, output.tap_outputs);
    }
    return output.sample.to(at::kFloat);
}

at::Tensor Step::guided(const Guidance& guidance, double scale) const {
    std::vector<at::Tensor> prompts;
    if (guidance.runs()) {
        prompts.push_back(conditions.negative_prompt);
    }
    const auto positive_at = static_cast<std::int64_t>(prompts.size());
    prompts.push_back(conditions.prompt);
    const Perturbation* perturbation =
        guidance.perturbation.runs() ? &guidance.perturbation : nullptr;
    if (perturbation != nullptr) {
        prompts.push_back(conditions.prompt);
    }
    const auto count = static_cast<std::int64_t>(prompts.size());
    std::vector<at::Tensor> v;  // of the passes
    if (guidance.batched) {
        v = predict({prompts, positive_at, perturbation}).chunk(count);
    } else {
        for (std::int64_t i = 0; i < count; ++i) {
            const bool perturbed = i > positive_at;
            v.push_back(predict({{prompts[static_cast<std::size_t>(i)]},
                                 i == positive_at ? std::optional<std::int64_t>(0) : std::nullopt,
                                 perturbed ? perturbation : nullptr}));
        }
    }
    const at::Tensor& positive = v[static_cast<std::size_t>(positive_at)];
    const at::Tensor guided = guidance.runs() ? v[0] + scale * (positive - v[0]) : positive;
    return perturbation == nullptr ? guided : guided + perturbation->scale * (positive - v.back());
}

}  // namespace

at::Tensor denoise(const models::Backbone& backbone, const diffusion::Sampler& sampler,
                   const at::Tensor& noise, const Conditions& conditions, const Guidance& guidance,
                   const DrawNoise& draw, const std::function<void(std::int64_t steps)>& done,
                   const AttentionListener* listener) {
    const at::NoGradGuard no_grad;
    check_shapes(noise, conditions, guidance);
    const std::vector<std::int64_t>& timesteps = sampler.timesteps();
    const auto num_steps = static_cast<std::int64_t>(timesteps.size());
    at::Tensor latents = noise, old_x0;
    for (std::size_t i = 0; i < timesteps.size(); ++i) {
        const double scale =
            guidance.dynamic ? diffusion::dynamic_guidance(guidance.scale, num_steps, timesteps[i])
                             : guidance.scale;
        const Step now{backbone, conditions, listener, latents, i, timesteps[i]};
        const at::Tensor v = now.guided(guidance, scale);
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
