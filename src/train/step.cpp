#include "matrix/train/step.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "train/model_input.h"

namespace matrix::train {
LossTerms run_batch(const Batch& batch, const models::Backbone& backbone,
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

StepResult training_step(const std::vector<Batch>& micro_batches, const models::Backbone& backbone,
                         const diffusion::NoiseSchedule& schedule, alignment::Objective& objective,
                         AdamW& optimizer, const TermWeights& weights, double learning_rate_factor,
                         bool checkpointing) {
    const double scale = 1.0 / static_cast<double>(micro_batches.size());
    StepResult result;
    result.loss_denoise = at::zeros({}, at::TensorOptions(at::kFloat).device(backbone.device()));
    result.loss_sga = at::zeros_like(result.loss_denoise);
    result.loss_spa = at::zeros_like(result.loss_denoise);

    for (const Batch& batch : micro_batches) {
        const LossTerms terms =
            run_batch(batch, backbone, schedule, objective, checkpointing, scale, true);
        result.loss_denoise.add_(terms.denoise, scale);
        result.loss_sga.add_(terms.alignment.sga.loss, scale);
        result.loss_spa.add_(terms.alignment.spa.loss, scale);
        result.sga_counted += terms.alignment.sga.counted;
        result.sga_skipped += terms.alignment.sga.skipped;
        result.spa_counted += terms.alignment.spa.counted;
        result.spa_skipped += terms.alignment.spa.skipped;
    }
    result.loss =
        result.loss_denoise + weights.sga * result.loss_sga + weights.spa * result.loss_spa;
    result.grad_norm = optimizer.step(learning_rate_factor, result.loss);
    return result;
}

}  // namespace matrix::train
