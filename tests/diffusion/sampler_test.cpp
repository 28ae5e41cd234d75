#include "matrix/diffusion/sampler.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

namespace matrix::diffusion {
namespace {

Sampler sampler(SamplerKind kind, std::int64_t num_steps) {
    SchedulerConfig config;
    config.snr_shift_scale = 1.0;
    config.rescale_betas_zero_snr = true;
    return {config, kind, num_steps};
}

at::Tensor none() {
    ADD_FAILURE() << "drew noise";
    return {};
}

TEST(Sampler, TimetablesAreThoseOfNumpy) {
    const auto table = [](std::int64_t n) { return sampler(SamplerKind::kDdim, n).timesteps(); };
    EXPECT_EQ(table(1), std::vector<std::int64_t>{999});
    EXPECT_EQ(table(3), (std::vector<std::int64_t>{999, 666, 332}));
    EXPECT_EQ(table(50).front(), 999);
    EXPECT_EQ(table(50).back(), 19);
    EXPECT_EQ(table(1000).back(), 0);
    EXPECT_EQ(table(48)[3], 936) << "arange gives a little less than 937.5";
    EXPECT_EQ(table(61).size(), 61u) << "numpy has one more, -1";
    EXPECT_EQ(table(61).back(), 15);
}

/// Of what a step is made of; a is the timestep's cumulated alpha.
struct Coefficients {
    double v, sample, old_x0, noise, a;
};

/// Each tensor is 1 in a place of its own.
Coefficients dpm(std::size_t index, bool with_old) {
    const auto unit = [](std::int64_t place) {
        at::Tensor tensor = at::zeros({4}, at::kDouble);
        tensor[place] = 1;
        return tensor;
    };
    const Sampler steps = sampler(SamplerKind::kDpm, 50);
    const at::Tensor prev = steps
                                .step(index, unit(0), unit(1), with_old ? unit(2) : at::Tensor(),
                                      [&] { return unit(3); })
                                .prev_sample;
    const double* values = prev.const_data_ptr<double>();
    const auto timestep = static_cast<std::size_t>(steps.timesteps()[index]);
    return {values[0], values[1], values[2], values[3],
            steps.schedule().alphas_cumprod()[timestep]};
}

TEST(Sampler, DpmHasTheCoefficientsOfTheReference) {
    // Timestep 999 is pure noise: x0 = -v, and the sample itself does not count.
    const Coefficients first = dpm(0, false);
    EXPECT_NEAR(first.sample, 0.0, 1e-15);
    EXPECT_NEAR(first.v, -0.0092621727149, 1e-12);
    EXPECT_NEAR(first.noise, 0.999957105158, 1e-12);

    const Coefficients third = dpm(2, true);
    const double of_sample = 0.637755463793, of_clean = 0.0180011789514;
    const double now = 1.30460985958, before = 0.30460985958;
    EXPECT_NEAR(third.noise, 0.769739698215, 1e-11);
    EXPECT_NEAR(third.old_x0, -of_clean * before, 1e-11);
    EXPECT_NEAR(third.v, -of_clean * now * std::sqrt(1 - third.a), 1e-11);
    EXPECT_NEAR(third.sample, of_sample + of_clean * now * std::sqrt(third.a), 1e-11);

    const Coefficients last = dpm(49, true);  // x0
    EXPECT_EQ(last.old_x0, 0.0);
    EXPECT_EQ(last.noise, 0.0);
    EXPECT_NEAR(last.sample, std::sqrt(last.a), 1e-15);
    EXPECT_NEAR(last.v, -std::sqrt(1 - last.a), 1e-15);
}

TEST(Sampler, DdimDrawsNothingAndIsFinite) {
    const Sampler ddim = sampler(SamplerKind::kDdim, 4);
    const at::Tensor v = at::linspace(-1, 1, 7), x = at::linspace(2, -3, 7);
    for (std::size_t i = 0; i < 4; ++i) {
        const auto step = ddim.step(i, v, x, {}, none);
        EXPECT_TRUE(step.prev_sample.isfinite().all().item<bool>()) << i;
        EXPECT_EQ(at::allclose(step.prev_sample, step.x0), i == 3) << i;
    }
}

// On CPUs a product of a tensor without dimensions and a bfloat16 one rounds both first.
TEST(Sampler, CoefficientsRoundAsTensorsDo) {
    const Sampler ddim = sampler(SamplerKind::kDdim, 10);
    const at::Tensor x = at::linspace(-3, 3, 999).to(at::kBFloat16);
    const auto timestep = static_cast<std::size_t>(ddim.timesteps()[5]);
    const double root = std::sqrt(ddim.schedule().alphas_cumprod()[timestep]);
    const at::Tensor expected = at::scalar_tensor(root, at::kDouble) * x;
    EXPECT_FALSE(at::equal(expected, x * root));
    const auto step = ddim.step(5, at::zeros({999}), x, {}, none);
    test::expect_equal(step.x0, expected.to(at::kFloat), "x0");
}

TEST(Sampler, GuidanceFollowsTheTimestep) {
    EXPECT_NEAR(dynamic_guidance(6, 50, 999), 2.291487174551, 1e-11);
    EXPECT_NEAR(dynamic_guidance(6, 50, 959), 6.974351832175, 1e-11);
    EXPECT_NEAR(dynamic_guidance(6, 50, 39), 1.000003932038, 1e-11);
    EXPECT_NEAR(dynamic_guidance(6, 50, 19), 1.123397939969, 1e-11);
}

}  // namespace
}  // namespace matrix::diffusion
