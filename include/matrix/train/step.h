#pragma once

#include "matrix/alignment/objective.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/models/backbone.h"
#include "matrix/train/batch.h"
#include "matrix/train/optimizer.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace matrix::train {

/// What a step tells the loop, still on the device: reading a value is what waits for it.
struct StepResult {
    at::Tensor loss;  ///< [] denoise + the terms by their weights, mean over the micro-batches
    at::Tensor loss_denoise;                   ///< []
    std::vector<alignment::TermResult> terms;  ///< the objective's, without maps
    at::Tensor grad_norm;                      ///< [] before clipping
};

/// What one batch comes to.
struct BatchResult {
    at::Tensor denoise;  ///< [], detached
    alignment::Evaluation alignment;
    at::Tensor sample;  ///< the model's v-prediction, detached
};

/// Noise, forward, denoising loss, alignment, backward: one batch's share of a step, gradients
/// added to `.grad` times `scale`.
[[nodiscard]] BatchResult run_batch(const Batch& batch, const models::Backbone& backbone,
                                    const diffusion::NoiseSchedule& schedule,
                                    alignment::Objective& objective, bool checkpointing,
                                    double scale, bool with_gradients);

/// One optimizer step over `num_micro_batches` batches, each taken from `next_batch` when its turn
/// comes, so that one is in memory at a time.
[[nodiscard]] StepResult training_step(const std::function<Batch()>& next_batch,
                                       std::int64_t num_micro_batches,
                                       const models::Backbone& backbone,
                                       const diffusion::NoiseSchedule& schedule,
                                       alignment::Objective& objective, AdamW& optimizer,
                                       double learning_rate_factor, bool checkpointing);

}  // namespace matrix::train
