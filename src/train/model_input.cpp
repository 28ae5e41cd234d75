#include "train/model_input.h"

#include <ATen/ATen.h>

#include "matrix/core/transfer.h"

namespace matrix::train {

NoisyBatch noisy_batch(const Batch& batch, const models::Backbone& backbone,
                       const diffusion::NoiseSchedule& schedule) {
    const at::Device device = backbone.device();
    const at::Tensor latents = upload(batch.latents, device), noise = upload(batch.noise, device);
    std::vector<at::Tensor> channels = {schedule.add_noise(latents, noise, batch.timestep)};
    for (const at::Tensor& condition : {batch.image_latents, batch.id_map_latents}) {
        if (condition.defined()) {
            channels.push_back(upload(condition, device));
        }
    }
    NoisyBatch noisy;
    noisy.input.hidden_states = at::cat(channels, 2).to(backbone.dtype());  // [B, F, C, h, w]
    noisy.input.encoder_hidden_states =
        upload(batch.encoder_hidden_states, device).to(backbone.dtype());
    noisy.input.timestep = upload(batch.timestep, device);
    noisy.velocity = schedule.velocity(latents, noise, batch.timestep);
    return noisy;
}

}  // namespace matrix::train
