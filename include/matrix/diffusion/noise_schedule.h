#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace matrix::diffusion {

/// scheduler/scheduler_config.json of the CogVideoX DDIM and DPM schedulers; absent fields take the
/// reference's defaults.
struct SchedulerConfig {
    std::string class_name = "CogVideoXDDIMScheduler";
    std::int64_t num_train_timesteps = 1000;
    double beta_start = 0.00085;
    double beta_end = 0.012;
    double snr_shift_scale = 3.0;
    bool rescale_betas_zero_snr = false;
    bool set_alpha_to_one = true;

    /// RunError naming the file and field; schedules other than scaled-linear v-prediction are
    /// refused by name.
    [[nodiscard]] static SchedulerConfig from_file(const std::filesystem::path& config_json);
};

/// The variance-preserving schedule in float64: beta = linspace(sqrt(start), sqrt(end))^2, a =
/// cumprod(1 - beta), shifted to a / (s + (1 - s) a), then rescaled to zero terminal SNR (so a at
/// the last timestep is exactly 0).
class NoiseSchedule {
public:
    explicit NoiseSchedule(const SchedulerConfig& config);

    [[nodiscard]] std::int64_t num_timesteps() const {
        return static_cast<std::int64_t>(alphas_cumprod_.size());
    }
    [[nodiscard]] const std::vector<double>& alphas_cumprod() const { return alphas_cumprod_; }

    /// x_t = sqrt(a) latents + sqrt(1 - a) noise, in float32: [B, ...] and timestep [B] int64.
    [[nodiscard]] at::Tensor add_noise(const at::Tensor& latents, const at::Tensor& noise,
                                       const at::Tensor& timestep) const;
    /// v = sqrt(a) noise - sqrt(1 - a) latents, in float32: what a v-prediction model is trained to
    /// give.
    [[nodiscard]] at::Tensor velocity(const at::Tensor& latents, const at::Tensor& noise,
                                      const at::Tensor& timestep) const;
    /// x0 = sqrt(a) x_t - sqrt(1 - a) v, in float32.
    [[nodiscard]] at::Tensor predict_x0(const at::Tensor& noisy, const at::Tensor& v,
                                        const at::Tensor& timestep) const;
    /// 1 / (1 - a), [B] float64: the weight under which the error of x0 is the error of v.
    [[nodiscard]] at::Tensor loss_weight(const at::Tensor& timestep) const;

private:
    [[nodiscard]] at::Tensor coefficients(const at::Tensor& timestep, const at::Tensor& like,
                                          bool of_noise) const;

    std::vector<double> alphas_cumprod_;
};

/// The denoising loss [] float32: the mean over the batch of weight * mean (x0_hat - x0)^2, which
/// in exact arithmetic is the mean square of v_hat - v; formed in that second way, where nothing
/// cancels at small timesteps.
[[nodiscard]] at::Tensor denoising_loss(const at::Tensor& v_hat, const at::Tensor& velocity);

}  // namespace matrix::diffusion
