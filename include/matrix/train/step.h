#pragma once

#include "matrix/alignment/objective.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/models/backbone.h"
#include "matrix/train/batch.h"
#include "matrix/train/optimizer.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace matrix::train {

/// What a step tells the loop, still on the device: reading a value is what waits for it.
struct StepResult {
    at::Tensor loss;  ///< [] denoise + sga.weight sga + spa.weight spa, mean over the micro-batches
    at::Tensor loss_denoise;  ///< []
    at::Tensor loss_sga;      ///< [] before its weight
    at::Tensor loss_spa;      ///< []
    at::Tensor grad_norm;     ///< [] before clipping
    std::int64_t sga_counted = 0, sga_skipped = 0, spa_counted = 0, spa_skipped = 0;  ///< entities
};

/// The loss of one batch and, where wanted, its backward.
struct LossTerms {
    at::Tensor denoise;  ///< [], detached
    alignment::Evaluation alignment;
    at::Tensor sample;  ///< the model's v-prediction, detached
};

/// Weights of the two alignment terms in the total.
struct TermWeights {
    double sga = 0.0;
    double spa = 0.0;
};

/// Noise, forward, denoising loss, alignment, backward: one batch's share of a step, gradients
/// added to `.grad` times `scale`.
[[nodiscard]] LossTerms run_batch(const Batch& batch, const models::Backbone& backbone,
                                  const diffusion::NoiseSchedule& schedule,
                                  alignment::Objective& objective, bool checkpointing, double scale,
                                  bool with_gradients);

/// One optimizer step over its micro-batches.
[[nodiscard]] StepResult training_step(const std::vector<Batch>& micro_batches,
                                       const models::Backbone& backbone,
                                       const diffusion::NoiseSchedule& schedule,
                                       alignment::Objective& objective, AdamW& optimizer,
                                       const TermWeights& weights, double learning_rate_factor,
                                       bool checkpointing);

}  // namespace matrix::train
