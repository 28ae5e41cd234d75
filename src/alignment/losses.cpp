#include "matrix/alignment/losses.h"

#include "matrix/kernels/mask_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

// E entities, n pixels of an entity; x logits, y target, s = sigmoid(x).

namespace matrix::alignment {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Coefficients {
    double bce, dice, l2;
    bool positive_class_weight;
};

struct MaskLoss : torch::autograd::Function<MaskLoss> {
    static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& y,
                                 const Coefficients& k) {
        const kernels::MaskSums sums = kernels::mask_sums(x, y);
        const auto n = static_cast<double>(x.size(1));
        // 0 / 0 cannot occur: without positives the quotient is infinite.
        const at::Tensor weight =
            k.positive_class_weight
                ? ((n - sums.positives) / sums.positives).clamp_max(kMaxPositiveWeight)
                : at::ones_like(sums.positives);
        const at::Tensor size = sums.foreground + sums.positives + 1;
        const at::Tensor share = (2 * sums.overlap + 1) / size;
        const at::Tensor bce =
            (weight * sums.positive_bce + (sums.all_bce - sums.positive_bce)) / n;
        const at::Tensor dice = 1 - share;
        const at::Tensor l2 = sums.squares / n;
        const at::Tensor total = (k.bce * bce + k.dice * dice + k.l2 * l2).sum();

        ctx->save_for_backward({x, y, weight, size, share});
        ctx->saved_data["bce"] = k.bce;
        ctx->saved_data["dice"] = k.dice;
        ctx->saved_data["l2"] = k.l2;
        const auto dtype = x.scalar_type();
        variable_list out = {bce.to(dtype), dice.to(dtype), l2.to(dtype), total.to(dtype)};
        ctx->mark_non_differentiable({out[0], out[1], out[2]});
        return out;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor &x = saved[0], &y = saved[1];
        const auto n = static_cast<double>(x.size(1));
        const at::Tensor upstream = grads[3].to(at::kDouble);
        const auto factor = [&](const char* name) {
            return upstream * ctx->saved_data[name].toDouble();
        };
        const at::Tensor bce = (factor("bce") / n).expand_as(saved[2]);
        const at::Tensor dice = factor("dice") / saved[3];
        // d dice / d s = (2 I + 1) / U^2 - 2 y / U
        const at::Tensor grad =
            kernels::mask_gradient(x, y,
                                   {.bce = bce,
                                    .extra_bce = bce * (saved[2] - 1),
                                    .square = (2 * factor("l2") / n).expand_as(saved[2]),
                                    .everywhere = dice * saved[4],
                                    .inside = -2 * dice});
        return {grad, {}, {}};
    }
};

}  // namespace

LossTerms mask_loss(const at::Tensor& logits, const at::Tensor& target,
                    const AlignmentConfig& config) {
    TORCH_CHECK(logits.dim() == 4 && logits.sizes() == target.sizes(),
                "mask loss wants logits and target [E, T, H, W], got ", logits.sizes(), " and ",
                target.sizes());
    const Coefficients k{config.bce, config.dice, config.l2, config.positive_class_weight};
    const variable_list out = MaskLoss::apply(logits.flatten(1), target.flatten(1), k);
    return {out[0], out[1], out[2], out[3]};
}

}  // namespace matrix::alignment
