#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace matrix::kernels {

/// Tensors that share a learning rate: as many of each kind, contiguous and float32, `steps` [].
struct AdamWGroup {
    double learning_rate = 0.0;
    std::vector<at::Tensor> values, grads, exp_avg, exp_avg_sq, steps;
};

struct AdamWFactors {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
};

/// One AdamW step (decoupled decay, bias-corrected moments) of all groups, whose gradients are
/// multiplied by `clip` [] first, if it is defined; the product may be left in them. Where
/// `skip` [] is 1 and not 0, values, moments and steps stay as they are. Nothing waits for the
/// device. On a GPU one launch for all tensors (for each 512 of them), elsewhere ATen's fused
/// operation for each group.
void adamw_(const std::vector<AdamWGroup>& groups, const AdamWFactors& factors,
            const at::Tensor& clip, const at::Tensor& skip);

}  // namespace matrix::kernels
