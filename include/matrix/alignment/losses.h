#pragma once

#include "matrix/alignment/config.h"
#include "matrix/kernels/mask_loss.h"

#include <ATen/core/Tensor.h>

namespace matrix::alignment {

/// Cap of the positive-class weight, as in the authors' public code.
inline constexpr double kMaxPositiveWeight = 10.0;

/// The mask loss of E entities (paper section 5), each [E] over the entity's own pixels, and the
/// sum that trains:
///   bce   mean of -(p y log s + (1 - y) log(1 - s)), s = sigmoid(x), p the positive-class weight
///   dice  1 - (2 sum(s y) + 1) / (sum s + sum y + 1)
///   l2    mean of (s - y)^2
///   total [] = sum over E of the config's bce, dice and l2 times these; it alone carries a
///   gradient.
struct LossTerms {
    at::Tensor bce, dice, l2, total;
};

/// `logits` [E, T, H, W] float32 or float64; `target` [E, T, H, W] of zeros and ones in any dtype,
/// on the same device. With `config.positive_class_weight` p = min(negatives / positives, 10), and
/// 10 where there is no positive pixel, else p = 1. Works on a bounded number of pixels at a time,
/// in both directions, and keeps only its inputs; finite for any finite logit.
[[nodiscard]] LossTerms mask_loss(const at::Tensor& logits, const at::Tensor& target,
                                  const AlignmentConfig& config);

/// The same of logits as a head leaves them, differentiable in their parts: in float32 the pixels'
/// logits are never in memory.
[[nodiscard]] LossTerms mask_loss(const kernels::CellLogits& logits, const at::Tensor& target,
                                  const AlignmentConfig& config);

}  // namespace matrix::alignment
