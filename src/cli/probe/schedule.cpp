#include <ATen/ATen.h>

#include "cli/probe/parts.h"
#include "matrix/diffusion/noise_schedule.h"

namespace matrix::cli::probe {
namespace {

/// mean over the batch of weight * mean over elements of (x0 - latents)^2. In float64 throughout:
/// at small timesteps the weight is 10^3 and x0 - latents is a difference of near-equal numbers.
at::Tensor weighted_loss(const at::Tensor& latents, const at::Tensor& noise,
                         const at::Tensor& model_output, const at::Tensor& weight) {
    std::vector<std::int64_t> shape(static_cast<std::size_t>(latents.dim()), 1);
    shape[0] = latents.size(0);
    const at::Tensor rest = weight.reciprocal().view(shape);  // 1 - a
    const at::Tensor a = (1 - rest).sqrt(), b = rest.sqrt();
    const at::Tensor x0 = a * (a * latents + b * noise) - b * model_output;
    const at::Tensor squares = (x0 - latents).square();
    return (weight * (squares.dim() > 1 ? squares.flatten(1).mean(1) : squares)).mean();
}

}  // namespace

Result run_scheduler_train(const Request& request) {
    const Inputs in(request);
    const diffusion::NoiseSchedule schedule(diffusion::SchedulerConfig::from_file(
        request.component("scheduler") / "scheduler_config.json"));
    const at::Tensor timestep = in.integers("timestep", {-1}, at::kLong);
    const at::Tensor latents = in.any_floating("latents", at::kFloat);  // [B, ...]
    if (latents.dim() < 1 || latents.size(0) != timestep.size(0)) {
        in.fail("latents",
                "its first size must be that of timestep, " + std::to_string(timestep.size(0)));
    }
    const at::Tensor noise = in.floating("noise", latents.sizes(), at::kFloat);
    const at::Tensor model_output = in.floating("model_output", latents.sizes(), at::kFloat);

    Result result;
    const at::Tensor noisy = schedule.add_noise(latents, noise, timestep);
    const at::Tensor weight = schedule.loss_weight(timestep);  // [B] float64
    result.outputs["noisy"] = noisy;
    result.outputs["velocity"] = schedule.velocity(latents, noise, timestep);
    result.outputs["x0"] = schedule.predict_x0(noisy, model_output, timestep);
    result.outputs["weight"] = weight;
    result.outputs["loss"] =
        weighted_loss(latents.to(at::kDouble), noise.to(at::kDouble), model_output.to(at::kDouble),
                      weight.to(latents.device()));
    return result;
}

}  // namespace matrix::cli::probe
