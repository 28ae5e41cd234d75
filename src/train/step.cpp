#include "matrix/train/step.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "train/model_input.h"

namespace matrix::train {
namespace {

/// Adds a micro-batch's terms, its losses times `scale`, to the step's.
void add_terms(std::vector<alignment::TermResult>& sums, std::vector<alignment::TermResult> terms,
               double scale) {
    if (sums.empty()) {
        sums = std::move(terms);
        for (alignment::TermResult& sum : sums) {
            sum.loss = sum.loss * scale;
            sum.map.reset();
        }
        return;
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
        sums[i].loss.add_(terms[i].loss, scale);
        sums[i].counted += terms[i].counted;
        sums[i].skipped += terms[i].skipped;
    }
}

}  // namespace

BatchResult run_batch(const Batch& batch, const models::Backbone& backbone,
                      const diffusion::NoiseSchedule& schedule, alignment::Objective& objective,
                      bool checkpointing, double scale, bool with_gradients) {
    const at::AutoGradMode grad_mode(with_gradients);
    const NoisyBatch noisy = noisy_batch(batch, backbone, schedule);
    const models::BackboneOutput output =
        backbone.forward(noisy.input, {objective.taps(batch.supervision), checkpointing});

    const at::Tensor denoise = diffusion::denoising_loss(output.sample, noisy.velocity);
    const at::Tensor& latents = batch.latents;  // [B, F, C, h, w]
    const nn::TokenLayout layout = backbone.layout(
        latents.size(1), latents.size(3), latents.size(4), batch.encoder_hidden_states.size(1));
    alignment::Evaluation evaluation =
        objective.evaluate(output.tap_outputs, batch.supervision, layout, scale, with_gradients);

    if (with_gradients) {
        std::vector<at::Tensor> roots = evaluation.roots, seeds = evaluation.root_gradients;
        if (denoise.requires_grad()) {
            roots.push_back(denoise);
            seeds.push_back(at::full({}, scale, denoise.options()));
        }
        torch::autograd::backward(roots, seeds);
    }
    return {denoise.detach(), std::move(evaluation), output.sample.detach()};
}

StepResult training_step(const std::function<Batch()>& next_batch, std::int64_t num_micro_batches,
                         const models::Backbone& backbone, const diffusion::NoiseSchedule& schedule,
                         alignment::Objective& objective, AdamW& optimizer,
                         double learning_rate_factor, bool checkpointing) {
    const double scale = 1.0 / static_cast<double>(num_micro_batches);
    StepResult result;
    result.loss_denoise = at::zeros({}, at::TensorOptions(at::kFloat).device(backbone.device()));

    for (std::int64_t i = 0; i < num_micro_batches; ++i) {
        BatchResult batch = run_batch(next_batch(), backbone, schedule, objective, checkpointing,
                                      scale, /*with_gradients=*/true);
        result.loss_denoise.add_(batch.denoise, scale);
        add_terms(result.terms, std::move(batch.alignment.terms), scale);
    }
    result.loss = result.loss_denoise;
    for (const alignment::TermResult& term : result.terms) {
        result.loss = result.loss + term.weight * term.loss;
    }
    result.grad_norm = optimizer.step(learning_rate_factor, result.loss);
    return result;
}

}  // namespace matrix::train
