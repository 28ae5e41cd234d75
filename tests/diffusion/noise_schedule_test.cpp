#include "matrix/diffusion/noise_schedule.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "matrix/tensor_io/safetensors.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::diffusion {
namespace {

constexpr std::int64_t kStored[] = {0, 1, 2, 249, 500, 749, 979, 998, 999};

NoiseSchedule schedule(double shift, bool zero) {
    SchedulerConfig config;
    config.snr_shift_scale = shift;
    config.rescale_betas_zero_snr = zero;
    return NoiseSchedule(config);
}

TEST(NoiseSchedule, TableEqualsDiffusers) {
    const tensor_io::SafetensorsFile file(std::string(MATRIX_FIXTURES) +
                                          "/diffusion/alphas.safetensors");
    for (const double shift : {1.0, 3.0}) {
        for (const bool zero : {false, true}) {
            const auto table = schedule(shift, zero).alphas_cumprod();
            ASSERT_EQ(table.size(), 1000u);
            const at::Tensor expected =
                file.tensor((shift == 1.0 ? "1" : "3") + std::string(zero ? ".zero" : ""));
            for (std::int64_t i = 0; i < expected.size(0); ++i) {
                const double a = expected[i].item<double>();
                EXPECT_LE(std::abs(table[static_cast<std::size_t>(kStored[i])] - a), 1e-12 * a)
                    << kStored[i];
            }
        }
    }
    EXPECT_EQ(schedule(1.0, true).alphas_cumprod().back(), 0.0);
}

class Noising : public testing::Test {
protected:
    Noising() { at::manual_seed(7); }
    [[nodiscard]] at::Tensor root(bool of_noise) const {
        at::Tensor values = at::empty({3, 1, 1}, at::kDouble);
        for (int i = 0; i < 3; ++i) {
            const double a =
                schedule_
                    .alphas_cumprod()[static_cast<std::size_t>(timestep_[i].item<std::int64_t>())];
            values[i].fill_(std::sqrt(of_noise ? 1 - a : a));
        }
        return values;
    }

    NoiseSchedule schedule_ = schedule(1.0, true);
    at::Tensor timestep_ = at::tensor({0, 500, 999}, at::kLong);
    at::Tensor latents_ = at::randn({3, 2, 4}), noise_ = at::randn({3, 2, 4}),
               v_ = at::randn({3, 2, 4});
};

TEST_F(Noising, FollowsTheDefinitions) {
    const at::Tensor noisy = schedule_.add_noise(latents_, noise_, timestep_);
    const at::Tensor velocity = schedule_.velocity(latents_, noise_, timestep_);
    EXPECT_EQ(noisy.scalar_type(), at::kFloat);
    test::expect_close(noisy, root(false) * latents_ + root(true) * noise_, 1e-6, "noisy");
    test::expect_close(velocity, root(false) * noise_ - root(true) * latents_, 1e-6, "velocity");
    test::expect_close(schedule_.predict_x0(noisy, v_, timestep_),
                       root(false) * noisy - root(true) * v_, 1e-6, "x0");
    // The right velocity gives the latents back.
    test::expect_close(schedule_.predict_x0(noisy, velocity, timestep_), latents_, 1e-6,
                       "x0 of the velocity");
}

// bfloat16 latents must not round the table: sqrt(a) at t = 0 would become 1 and no noise be added.
TEST_F(Noising, IsFormedInFloat32) {
    const at::Tensor half = latents_.to(at::kBFloat16);
    const at::Tensor noisy = schedule_.add_noise(half, noise_, timestep_);
    EXPECT_EQ(noisy.scalar_type(), at::kFloat);
    test::expect_close(noisy, root(false) * half.to(at::kDouble) + root(true) * noise_, 1e-6,
                       "noisy");
}

// The two forms of the loss: the weighted error of x0, and the plain error of v.
TEST_F(Noising, LossIsTheWeightedErrorOfX0) {
    const at::Tensor weight = schedule_.loss_weight(timestep_);
    EXPECT_EQ(weight.scalar_type(), at::kDouble);
    test::expect_close(weight.view({3, 1, 1}), root(true).square().reciprocal(), 1e-12, "weight");
    const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
    const at::Tensor noisy = root(false) * wide(latents_) + root(true) * wide(noise_);
    const at::Tensor x0 = root(false) * noisy - root(true) * wide(v_);
    const at::Tensor expected = (weight.view({3, 1, 1}) * (x0 - wide(latents_)).square()).mean();
    const at::Tensor velocity = schedule_.velocity(latents_, noise_, timestep_);
    test::expect_close(denoising_loss(v_, velocity), expected, 1e-5, "loss");
    EXPECT_EQ(denoising_loss(v_.to(at::kBFloat16), velocity).scalar_type(), at::kFloat);
}

TEST_F(Noising, RefusesTimestepsOutsideTheTable) {
    for (const std::int64_t t : {-1, 1000}) {
        test::expect_error(
            [&] { (void)schedule_.add_noise(latents_, noise_, at::full({3}, t, at::kLong)); },
            {"timestep", std::to_string(t), "0..999"});
    }
}

}  // namespace
}  // namespace matrix::diffusion
