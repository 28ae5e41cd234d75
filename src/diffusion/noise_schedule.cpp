#include "matrix/diffusion/noise_schedule.h"

#include <ATen/ATen.h>

#include <cmath>

#include "matrix/core/error.h"
#include "matrix/core/transfer.h"

namespace matrix::diffusion {
namespace {

std::vector<double> cumulative_alphas(const SchedulerConfig& config) {
    // The same float64 operations in the same order as the reference's tensors.
    const at::Tensor roots = at::linspace(std::sqrt(config.beta_start), std::sqrt(config.beta_end),
                                          config.num_train_timesteps, at::kDouble);
    at::Tensor a = at::cumprod(1.0 - roots.square(), 0);
    const double s = config.snr_shift_scale;
    a = a / (s + (1 - s) * a);
    if (config.rescale_betas_zero_snr) {
        at::Tensor root = a.sqrt();
        const double first = root[0].item<double>();
        const double last = root[-1].item<double>();
        root = (root - last) * (first / (first - last));
        a = root.square();
    }
    const at::Tensor contiguous = a.contiguous();
    const double* values = contiguous.const_data_ptr<double>();
    return {values, values + contiguous.numel()};
}

}  // namespace

NoiseSchedule::NoiseSchedule(const SchedulerConfig& config)
    : alphas_cumprod_(cumulative_alphas(config)) {}

/// sqrt(a_t), or sqrt(1 - a_t), shaped [B, 1, ...] float32 on the device of `like`.
at::Tensor NoiseSchedule::coefficients(const at::Tensor& timestep, const at::Tensor& like,
                                       bool of_noise) const {
    const at::Tensor on_cpu = on_host(timestep).contiguous();
    TORCH_CHECK(on_cpu.scalar_type() == at::kLong && on_cpu.numel() == like.size(0),
                "timestep wants [B] int64");
    std::vector<int64_t> shape(static_cast<std::size_t>(like.dim()), 1);
    shape[0] = like.size(0);
    at::Tensor values = at::empty(shape, at::kDouble);
    for (int64_t i = 0; i < on_cpu.numel(); ++i) {
        const int64_t t = on_cpu.const_data_ptr<int64_t>()[i];
        if (t < 0 || t >= num_timesteps()) {
            throw RunError("timestep: " + std::to_string(t) + " is outside 0.." +
                           std::to_string(num_timesteps() - 1));
        }
        const double a = alphas_cumprod_[static_cast<std::size_t>(t)];
        values.data_ptr<double>()[i] = std::sqrt(of_noise ? 1 - a : a);
    }
    return upload(values.to(at::kFloat), like.device());
}

at::Tensor NoiseSchedule::add_noise(const at::Tensor& latents, const at::Tensor& noise,
                                    const at::Tensor& timestep) const {
    return coefficients(timestep, latents, false) * latents.to(at::kFloat) +
           coefficients(timestep, latents, true) * noise.to(at::kFloat);
}

at::Tensor NoiseSchedule::velocity(const at::Tensor& latents, const at::Tensor& noise,
                                   const at::Tensor& timestep) const {
    return coefficients(timestep, latents, false) * noise.to(at::kFloat) -
           coefficients(timestep, latents, true) * latents.to(at::kFloat);
}

at::Tensor NoiseSchedule::predict_x0(const at::Tensor& noisy, const at::Tensor& v,
                                     const at::Tensor& timestep) const {
    return coefficients(timestep, noisy, false) * noisy.to(at::kFloat) -
           coefficients(timestep, noisy, true) * v.to(at::kFloat);
}

at::Tensor NoiseSchedule::loss_weight(const at::Tensor& timestep) const {
    at::Tensor weight = at::empty({timestep.numel()}, at::kDouble);
    for (int64_t i = 0; i < timestep.numel(); ++i) {
        const auto t = static_cast<std::size_t>(timestep[i].item<int64_t>());
        weight.data_ptr<double>()[i] = 1.0 / (1.0 - alphas_cumprod_.at(t));
    }
    return weight;
}

at::Tensor denoising_loss(const at::Tensor& v_hat, const at::Tensor& velocity) {
    return (v_hat.to(at::kFloat) - velocity).square().mean();
}

}  // namespace matrix::diffusion
