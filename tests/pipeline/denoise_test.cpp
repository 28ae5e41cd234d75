#include "matrix/pipeline/denoise.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::pipeline {
namespace {

/// v is the mean of all that goes in, with the timestep, and what edits take from attention;
/// forwards are noted.
class FakeBackbone final : public models::Backbone {
public:
    [[nodiscard]] models::BackboneOutput forward(
        const models::BackboneInput& input, const models::ForwardOptions& options) const override {
        EXPECT_FALSE(at::GradMode::is_enabled());
        batches.push_back(input.hidden_states.size(0));
        EXPECT_EQ(input.hidden_states.size(2), num_channels);
        const at::Tensor text = input.encoder_hidden_states.mean({1, 2}).view({-1, 1, 1, 1, 1});
        const at::Tensor t = input.timestep.to(text.scalar_type()).view({-1, 1, 1, 1, 1}) * 1e-4;
        return {input.hidden_states.narrow(2, 0, 2) + input.hidden_states.mean({2}, true) + text +
                    t + taken(options, text),
                {}};
    }
    [[nodiscard]] nn::TokenLayout layout(std::int64_t, std::int64_t, std::int64_t,
                                         std::int64_t) const override {
        return {};
    }
    [[nodiscard]] double training_flops(const nn::TokenLayout&) const override { return 0; }
    [[nodiscard]] at::ScalarType dtype() const override { return at::kFloat; }
    [[nodiscard]] at::Device device() const override { return at::kCPU; }
    [[nodiscard]] std::int64_t num_blocks() const override { return 0; }
    [[nodiscard]] std::map<std::string, nn::Linear*> adaptable_linears() override { return {}; }
    [[nodiscard]] nn::Linear& input_projection() override { return projection_; }
    [[nodiscard]] std::int64_t in_channels() const override { return num_channels; }
    void widen_input(std::int64_t) override {}

    std::int64_t num_channels = 6;
    mutable std::vector<std::int64_t> batches;

private:
    /// By the edits from equal attention over one text row and three frames of one cell, [B, 1, 1,
    /// 1, 1].
    static at::Tensor taken(const models::ForwardOptions& options, const at::Tensor& text) {
        at::Tensor sum = at::zeros_like(text);
        const at::Tensor zeros = at::zeros({text.size(0), 1, 4, 1}), ones = at::ones_like(zeros);
        const at::Tensor log_sum_exp = at::full({text.size(0), 1, 4}, std::log(4.0));
        const nn::TokenLayout layout = {nn::TokenLayout::Attention::kJoint, 1, 3, 1, 1};
        for (const auto& [block, edit] : options.edits) {
            const at::Tensor edited = edit({zeros, zeros, ones, log_sum_exp, ones, layout});
            sum = sum + (ones - edited).mean({1, 2, 3}).view({-1, 1, 1, 1, 1});
        }
        return sum;
    }

    nn::Linear projection_;
};

at::Tensor wave(at::IntArrayRef shape, double phase) {
    return (at::arange(c10::multiply_integers(shape), at::kFloat) * 1.3 + phase).sin().view(shape);
}

diffusion::Sampler sampler(diffusion::SamplerKind kind) {
    diffusion::SchedulerConfig config;
    config.rescale_betas_zero_snr = true;
    return {config, kind, 5};
}

struct Example {
    FakeBackbone backbone;
    at::Tensor noise = wave({2, 3, 2, 4, 5}, 0.1);
    Conditions conditions = {wave({2, 3, 2, 4, 5}, 0.2), wave({2, 3, 2, 4, 5}, 0.3),
                             wave({2, 7, 3}, 0.4), wave({2, 7, 3}, 0.5)};
    std::vector<std::size_t> draws;

    at::Tensor run(const Guidance& guidance,
                   diffusion::SamplerKind kind = diffusion::SamplerKind::kDdim) {
        const DrawNoise draw = [&](std::size_t step) {
            draws.push_back(step);
            return wave(noise.sizes(), static_cast<double>(draws.size()));
        };
        return denoise(backbone, sampler(kind), noise, conditions, guidance, draw);
    }
};

TEST(Denoise, GuidanceInOneForwardIsThatOfTwo) {
    Example batched, sequential;
    const at::Tensor a = batched.run({3.0, false, true}), b = sequential.run({3.0, false, false});
    test::expect_equal(a, b, "latents");
    EXPECT_EQ(batched.backbone.batches, std::vector<std::int64_t>(5, 4));
    EXPECT_EQ(sequential.backbone.batches, std::vector<std::int64_t>(10, 2));
    EXPECT_FALSE(at::equal(a, Example().run({3.0, true, true}))) << "dynamic";
}

TEST(Denoise, WithoutGuidanceTheNegativePromptIsNotWanted) {
    Example one;
    one.conditions.negative_prompt.reset();
    const at::Tensor latents = one.run({1.0});
    EXPECT_EQ(one.backbone.batches, std::vector<std::int64_t>(5, 2));
    EXPECT_TRUE(latents.isfinite().all().item<bool>());
    EXPECT_TRUE(one.draws.empty()) << "DDIM is deterministic";
}

/// Of equal attention, CAG takes 2 of a video row's 4 entries and CMG 1.
Guidance perturbed(double scale, bool batched, double perturbation_scale) {
    Guidance guidance{scale, false, batched};
    guidance.perturbation.scale = perturbation_scale;
    guidance.perturbation.cag_blocks = {0};
    guidance.perturbation.cmg_blocks = {1};
    guidance.perturbation.grounding = at::ones({1, 1}, at::kBool);
    return guidance;
}

TEST(Denoise, PerturbedPassIsTheLastOfTheBatch) {
    for (const double scale : {3.0, 1.0}) {
        const std::int64_t passes = scale > 1 ? 3 : 2;
        Example batched, sequential, off;
        const at::Tensor a = batched.run(perturbed(scale, true, 1.5)),
                         b = sequential.run(perturbed(scale, false, 1.5));
        test::expect_close(a, b, 1e-6, "latents");
        EXPECT_EQ(batched.backbone.batches, std::vector<std::int64_t>(5, 2 * passes));
        EXPECT_EQ(sequential.backbone.batches, std::vector<std::int64_t>(5 * passes, 2));
        EXPECT_GT(test::relative_error(a, off.run({scale})), 1e-2);
    }
}

TEST(Denoise, PerturbationLeadsAwayByItsScale) {
    // The perturbed v is larger by 3/4 of (2 + 1) / 4, whatever the latents are: that times the
    // scale is taken from every step's v, and the text, which is added to v, gives it back.
    Example guided, shifted;
    const at::Tensor a = guided.run(perturbed(1.0, true, 1.5));
    shifted.conditions.prompt = shifted.conditions.prompt - 1.5 * 0.75 * 0.75;
    test::expect_close(a, shifted.run({1.0}), 1e-5, "latents");
}

TEST(Denoise, PerturbationOfScaleZeroIsNone) {
    Example zero, none;
    test::expect_equal(zero.run(perturbed(3.0, true, 0.0)), none.run({3.0}), "latents");
    EXPECT_EQ(zero.backbone.batches, none.backbone.batches);
}

TEST(Denoise, ModelsWithoutConditionsGetNone) {
    Example text;
    text.conditions.image_latents.reset();
    text.conditions.id_map_latents.reset();
    text.backbone.num_channels = 2;
    EXPECT_EQ(text.run({6.0}).sizes(), text.noise.sizes());
}

TEST(Denoise, DrawsTwiceInTheMiddle) {
    Example dpm;
    (void)dpm.run({6.0}, diffusion::SamplerKind::kDpm);
    EXPECT_EQ(dpm.draws, (std::vector<std::size_t>{0, 1, 1, 2, 2, 3, 3, 4}));
}

TEST(Denoise, LatentsKeepTheDtypeOfTheConditions) {
    Example half;
    half.noise = half.noise.to(at::kBFloat16);
    for (at::Tensor* tensor : {&half.conditions.image_latents, &half.conditions.id_map_latents,
                               &half.conditions.prompt, &half.conditions.negative_prompt}) {
        *tensor = tensor->to(at::kBFloat16);
    }
    EXPECT_EQ(half.run({6.0}).scalar_type(), at::kBFloat16);
}

TEST(Denoise, RefusesShapesThatDoNotFit) {
    const auto refuses = [](const std::function<void(Example&)>& change, const char* message) {
        Example setup;
        change(setup);
        test::expect_error([&] { (void)setup.run({6.0}); }, {message});
        EXPECT_TRUE(setup.backbone.batches.empty());
    };
    refuses([](Example& s) { s.noise = s.noise.narrow(0, 0, 0); },
            "latents: [0, 3, 2, 4, 5] is empty");
    refuses([](Example& s) { s.conditions.prompt = s.conditions.prompt.narrow(0, 0, 1); },
            "prompt");
    refuses([](Example& s) { s.conditions.negative_prompt = s.conditions.prompt.narrow(1, 0, 6); },
            "negative prompt");
    refuses([](Example& s) { s.conditions.image_latents = s.noise.narrow(1, 0, 2); },
            "image_latents");
}

TEST(Denoise, TellsEveryStep) {
    Example told;
    std::vector<std::int64_t> steps;
    (void)denoise(told.backbone, sampler(diffusion::SamplerKind::kDdim), told.noise,
                  told.conditions, {}, {}, [&](std::int64_t step) { steps.push_back(step); });
    EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 3, 4, 5}));
}

}  // namespace
}  // namespace matrix::pipeline
