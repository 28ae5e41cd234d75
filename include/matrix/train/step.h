#pragma once

#include "matrix/alignment/objective.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/models/backbone.h"
#include "matrix/train/batch.h"
#include "matrix/train/gradient_exchange.h"
#include "matrix/train/optimizer.h"
#include "matrix/train/ranks.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace matrix::train {

/// What a step tells the loop, still on the device: reading a value is what waits for it. Losses
/// are means over the ranks and the same on each.
struct StepResult {
    at::Tensor loss;  ///< [] denoise + the terms by their weights, mean over the micro-batches
    at::Tensor loss_denoise;                   ///< []
    std::vector<alignment::TermResult> terms;  ///< the objective's, without maps; counts are this
                                               ///< rank's
    at::Tensor grad_norm;                      ///< [] before clipping
    /// This rank's micro-batches in order, each [1 + terms]: denoise, then the terms.
    std::vector<at::Tensor> micro_batches;
};

/// What one batch comes to.
struct BatchResult {
    at::Tensor denoise;  ///< [], detached
    alignment::Evaluation alignment;
    at::Tensor sample;  ///< the model's v-prediction, detached
};

struct BatchOptions {
    std::vector<nn::Keep> keep = {nn::Keep::kAttention};  ///< as ForwardOptions
    bool with_gradients = true;
    double scale = 1.0;                           ///< on the gradients
    const nn::SequenceGroup* sequence = nullptr;  ///< the ranks that run this batch together
    /// Called when the objective's own gradients are complete, before the backbone's backward.
    std::function<void()> before_backward = {};
};

/// Noise, forward, denoising loss, alignment, backward: one batch's share of a step, gradients
/// added to `.grad` times the scale.
[[nodiscard]] BatchResult run_batch(const Batch& batch, const models::Backbone& backbone,
                                    const diffusion::NoiseSchedule& schedule,
                                    alignment::Objective& objective, const BatchOptions& options);

/// What a step works on.
struct StepParts {
    const models::Backbone& backbone;
    const diffusion::NoiseSchedule& schedule;
    alignment::Objective& objective;
    AdamW& optimizer;
    GradientExchange& gradients;  ///< of the optimizer's parameters
    const Ranks& ranks;
};

struct StepOptions {
    std::int64_t num_micro_batches = 1;
    double learning_rate_factor = 1.0;
    std::vector<nn::Keep> keep = {nn::Keep::kAttention};  ///< as ForwardOptions
    std::string name = "step";                            ///< for messages about the ranks
};

/// One optimizer step, each micro-batch taken from `next_batch` when its turn comes, so that one is
/// in memory at a time. Gradients and losses are averaged over the ranks before the update, so all
/// of them update alike, or, where anything is not finite on any rank, not at all.
[[nodiscard]] StepResult training_step(const std::function<Batch()>& next_batch,
                                       const StepParts& parts, const StepOptions& options);

}  // namespace matrix::train
