#include "matrix/train/step.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "train/model_input.h"

namespace matrix::train {
namespace {

/// Adds a micro-batch's counts to the step's.
void add_counts(std::vector<alignment::TermResult>& sums,
                const std::vector<alignment::TermResult>& terms) {
    if (sums.empty()) {
        sums = terms;
        for (alignment::TermResult& sum : sums) {
            sum.map.reset();
        }
        return;
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
        sums[i].counted += terms[i].counted;
        sums[i].skipped += terms[i].skipped;
    }
}

at::Tensor losses_of(const BatchResult& batch) {
    std::vector<at::Tensor> losses = {batch.denoise};
    for (const alignment::TermResult& term : batch.alignment.terms) {
        losses.push_back(term.loss);
    }
    return at::stack(losses);  // [1 + terms]
}

}  // namespace

BatchResult run_batch(const Batch& batch, const models::Backbone& backbone,
                      const diffusion::NoiseSchedule& schedule, alignment::Objective& objective,
                      const BatchOptions& options) {
    const at::AutoGradMode grad_mode(options.with_gradients);
    const NoisyBatch noisy = noisy_batch(batch, backbone, schedule);
    const models::BackboneOutput output = backbone.forward(
        noisy.input, {objective.taps(batch.supervision), options.keep, options.sequence});

    const at::Tensor denoise = diffusion::denoising_loss(output.sample, noisy.velocity);
    const at::Tensor& latents = batch.latents;  // [B, F, C, h, w]
    const nn::TokenLayout layout = backbone.layout(
        latents.size(1), latents.size(3), latents.size(4), batch.encoder_hidden_states.size(1));
    alignment::Evaluation evaluation = objective.evaluate(
        output.tap_outputs, batch.supervision, layout, options.scale, options.with_gradients);

    if (options.with_gradients) {
        if (options.before_backward) {
            options.before_backward();
        }
        std::vector<at::Tensor> roots = evaluation.roots, seeds = evaluation.root_gradients;
        if (denoise.requires_grad()) {
            roots.push_back(denoise);
            seeds.push_back(at::full({}, options.scale, denoise.options()));
        }
        torch::autograd::backward(roots, seeds);
    }
    return {denoise.detach(), std::move(evaluation), output.sample.detach()};
}

StepResult training_step(const std::function<Batch()>& next_batch, const StepParts& parts,
                         const StepOptions& options) {
    const double scale = 1.0 / static_cast<double>(options.num_micro_batches);
    StepResult result;
    at::Tensor losses;  // [1 + terms] means
    parts.gradients.begin();
    for (std::int64_t i = 0; i < options.num_micro_batches; ++i) {
        BatchOptions batch_options{options.keep, true, scale, parts.ranks.sequence, {}};
        if (i + 1 == options.num_micro_batches) {
            batch_options.before_backward = [&] {
                parts.gradients.exchange("gradients, " + options.name);
                parts.gradients.complete(parts.objective.parameters());
            };
        }
        const BatchResult batch =
            run_batch(next_batch(), parts.backbone, parts.schedule, parts.objective, batch_options);
        add_counts(result.terms, batch.alignment.terms);
        result.micro_batches.push_back(losses_of(batch));
        losses = losses.defined() ? losses.add(result.micro_batches.back(), scale)
                                  : result.micro_batches.back() * scale;
    }
    parts.gradients.finish();
    parts.ranks.all.all_reduce(losses, distributed::ReduceOp::kAverage, "losses, " + options.name)
        ->wait();

    result.loss = result.loss_denoise = losses[0];
    for (std::size_t i = 0; i < result.terms.size(); ++i) {
        result.terms[i].loss = losses[static_cast<std::int64_t>(i) + 1];
        result.loss = result.loss + result.terms[i].weight * result.terms[i].loss;
    }
    result.grad_norm = parts.optimizer.step(options.learning_rate_factor, result.loss);
    return result;
}

}  // namespace matrix::train
