#pragma once

#include "matrix/diffusion/noise_schedule.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace matrix::diffusion {

enum class SamplerKind {
    kDdim,  ///< deterministic
    kDpm,   ///< DPM-Solver++ (2M), its stochastic form
};

/// The one that a scheduler's file is of.
[[nodiscard]] SamplerKind sampler_of(const SchedulerConfig& config);

/// Steps from noise to a sample, as `CogVideoXDDIMScheduler` and `CogVideoXDPMScheduler` of
/// diffusers take them, on the trailing timetable whatever the file says: the authors' own programs
/// override it, and published copies of one file differ in it. Coefficients are float64, among them
/// the infinities of a schedule that ends in pure noise; they meet tensors as the reference's do,
/// which are float64 tensors without dimensions.
class Sampler {
public:
    /// `num_steps` in 1..number of training timesteps.
    Sampler(const SchedulerConfig& config, SamplerKind kind, std::int64_t num_steps);

    /// [num_steps] in the order of the steps. Where numpy's arange, with which the reference builds
    /// it, gives one entry more by a rounding error (-1, after 0), that entry is left out: the
    /// reference would take the end of the schedule for it.
    [[nodiscard]] const std::vector<std::int64_t>& timesteps() const { return timesteps_; }
    [[nodiscard]] const NoiseSchedule& schedule() const { return schedule_; }

    struct Result {
        at::Tensor prev_sample;  ///< float32, as v is
        at::Tensor x0;           ///< float32, the clean sample that v and the sample amount to
    };
    /// A standard normal tensor of the sample's shape and dtype.
    using Draw = std::function<at::Tensor()>;

    /// Step `index` of the timetable: `v` float32, after guidance; `sample` of any dtype; `old_x0`
    /// of the step before, undefined in the first. DDIM draws nothing. DPM draws once, or twice
    /// where it uses `old_x0` (then it is the second draw that counts).
    [[nodiscard]] Result step(std::size_t index, const at::Tensor& v, const at::Tensor& sample,
                              const at::Tensor& old_x0, const Draw& draw) const;

private:
    [[nodiscard]] double alpha(std::int64_t timestep) const;
    [[nodiscard]] at::Tensor dpm_step(std::size_t index, double alpha_prev, const at::Tensor& x0,
                                      const at::Tensor& sample, const at::Tensor& old_x0,
                                      const Draw& draw) const;

    NoiseSchedule schedule_;
    SamplerKind kind_;
    std::vector<std::int64_t> timesteps_;
    std::int64_t stride_;  ///< from a timestep to the one that its step leads to
    double final_alpha_;
};

/// The guidance scale of `CogVideoXImageToVideoPipeline` with use_dynamic_cfg: 1 + scale (1 -
/// cos(pi ((n - t) / n)^5)) / 2, where t is the timestep and not, as the formula would have it, the
/// step.
[[nodiscard]] double dynamic_guidance(double scale, std::int64_t num_steps, std::int64_t timestep);

}  // namespace matrix::diffusion
