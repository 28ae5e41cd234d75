#include "matrix/diffusion/sampler.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

namespace matrix::diffusion {
namespace {

/// numpy's arange(train, 0, -train / num_steps), rounded half to even, less one. It adds multiples
/// of the difference of the first two entries, and rounding makes the timetable depend on that.
std::vector<std::int64_t> trailing_timetable(std::int64_t num_train, std::int64_t num_steps) {
    TORCH_CHECK(num_steps >= 1 && num_steps <= num_train, "num_steps: ", num_steps,
                " is outside 1..", num_train);
    const auto train = static_cast<double>(num_train);
    const double delta = (train - train / static_cast<double>(num_steps)) - train;
    std::vector<std::int64_t> timesteps;
    for (std::int64_t i = 0; i < num_steps; ++i) {
        const double place = train + static_cast<double>(i) * delta;
        timesteps.push_back(static_cast<std::int64_t>(std::nearbyint(place)) - 1);
    }
    return timesteps;
}

/// The reference's coefficient is a tensor on the left of the product: on CPUs it is rounded to the
/// dtype of x first, which a scalar is not.
at::Tensor times(double coefficient, const at::Tensor& x) {
    return at::scalar_tensor(coefficient, at::kDouble) * x;
}

/// log of the root of the signal-to-noise ratio; infinite at either end of the schedule.
double log_snr(double alpha) {
    return std::log(std::sqrt(alpha / (1 - alpha)));
}

}  // namespace

SamplerKind sampler_of(const SchedulerConfig& config) {
    return config.class_name == "CogVideoXDPMScheduler" ? SamplerKind::kDpm : SamplerKind::kDdim;
}

Sampler::Sampler(const SchedulerConfig& config, SamplerKind kind, std::int64_t num_steps)
    : schedule_(config),
      kind_(kind),
      timesteps_(trailing_timetable(config.num_train_timesteps, num_steps)),
      stride_(config.num_train_timesteps / num_steps),
      final_alpha_(config.set_alpha_to_one ? 1.0 : schedule_.alphas_cumprod().front()) {}

double Sampler::alpha(std::int64_t timestep) const {
    return timestep < 0 ? final_alpha_
                        : schedule_.alphas_cumprod().at(static_cast<std::size_t>(timestep));
}

Sampler::Result Sampler::step(std::size_t index, const at::Tensor& v, const at::Tensor& sample,
                              const at::Tensor& old_x0, const Draw& draw) const {
    const double a = alpha(timesteps_.at(index));
    const double a_prev = alpha(timesteps_[index] - stride_);
    const at::Tensor x0 = times(std::sqrt(a), sample) - times(std::sqrt(1 - a), v);
    if (kind_ == SamplerKind::kDpm) {
        return {dpm_step(index, a_prev, x0, sample, old_x0, draw), x0};
    }
    const double of_sample = std::sqrt((1 - a_prev) / (1 - a));
    const double of_x0 = std::sqrt(a_prev) - std::sqrt(a) * of_sample;
    return {times(of_sample, sample) + times(of_x0, x0), x0};
}

at::Tensor Sampler::dpm_step(std::size_t index, double a_prev, const at::Tensor& x0,
                             const at::Tensor& sample, const at::Tensor& old_x0,
                             const Draw& draw) const {
    const double a = alpha(timesteps_[index]);
    const double h = log_snr(a_prev) - log_snr(a);
    const double of_sample = std::sqrt((1 - a_prev) / (1 - a)) * std::exp(-h);
    const double of_x0 = std::expm1(-2 * h) * std::sqrt(a_prev);
    const double of_noise = std::sqrt(1 - a_prev) * std::sqrt(1 - std::exp(-2 * h));
    const auto towards = [&](const at::Tensor& clean, const at::Tensor& noise) {
        return times(of_sample, sample) - times(of_x0, clean) + times(of_noise, noise);
    };
    const at::Tensor noise = draw();
    if (!old_x0.defined() || timesteps_[index] - stride_ < 0) {
        return towards(x0, noise);
    }
    TORCH_CHECK(index > 0, "the first step has no step before it");
    const double r = (log_snr(a) - log_snr(alpha(timesteps_[index - 1]))) / h;
    const double of_old = 1 / (2 * r);
    return towards(times(1 + of_old, x0) - times(of_old, old_x0), draw());
}

double dynamic_guidance(double scale, std::int64_t num_steps, std::int64_t timestep) {
    const double n = static_cast<double>(num_steps);
    const double place = (n - static_cast<double>(timestep)) / n;
    return 1 + scale * ((1 - std::cos(std::numbers::pi * std::pow(place, 5.0))) / 2);
}

}  // namespace matrix::diffusion
