#pragma once

#include <ATen/core/Tensor.h>

#include "matrix/diffusion/noise_schedule.h"
#include "matrix/models/backbone.h"
#include "matrix/train/batch.h"

namespace matrix::train {

/// A batch noised and laid out for the backbone, and what it should predict.
struct NoisyBatch {
    models::BackboneInput input;
    at::Tensor velocity;  ///< [B, F, C, h, w] float32
};

/// Noise in float32, then channels in the order of the input projection: noisy latents, image
/// latents, ID-map latents.
[[nodiscard]] NoisyBatch noisy_batch(const Batch& batch, const models::Backbone& backbone,
                                     const diffusion::NoiseSchedule& schedule);

}  // namespace matrix::train
