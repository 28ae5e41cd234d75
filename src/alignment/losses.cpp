#include "matrix/alignment/losses.h"

#include "matrix/kernels/mask_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

// E entities, n pixels of an entity; y target, s = sigmoid of a logit.

namespace matrix::alignment {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Coefficients {
    double bce, dice, l2;
    bool positive_class_weight;
};

/// What the gradient needs of the sums, each [E] float64.
struct Quotients {
    at::Tensor weight, size, share;
};

struct Terms {
    Quotients quotients;
    at::Tensor bce, dice, l2, total;
};

Terms terms_of(const kernels::MaskSums& sums, double n, const Coefficients& k) {
    // 0 / 0 cannot occur: without positives the quotient is infinite.
    const at::Tensor weight =
        k.positive_class_weight
            ? ((n - sums.positives) / sums.positives).clamp_max(kMaxPositiveWeight)
            : at::ones_like(sums.positives);
    const at::Tensor size = sums.foreground + sums.positives + 1;
    const at::Tensor share = (2 * sums.overlap + 1) / size;
    Terms t{{weight, size, share}, {}, {}, {}, {}};
    t.bce = (weight * sums.positive_bce + (sums.all_bce - sums.positive_bce)) / n;
    t.dice = 1 - share;
    t.l2 = sums.squares / n;
    t.total = (k.bce * t.bce + k.dice * t.dice + k.l2 * t.l2).sum();
    return t;
}

/// `grad` []: of the total.
kernels::MaskSlopes slopes_of(const Quotients& q, double n, const Coefficients& k,
                              const at::Tensor& grad) {
    const at::Tensor upstream = grad.to(at::kDouble);
    const at::Tensor bce = (upstream * (k.bce / n)).expand_as(q.weight);
    const at::Tensor dice = upstream * k.dice / q.size;
    // d dice / d s = (2 I + 1) / U^2 - 2 y / U
    return {.bce = bce,
            .extra_bce = bce * (q.weight - 1),
            .square = (upstream * (2 * k.l2 / n)).expand_as(q.weight),
            .everywhere = dice * q.share,
            .inside = -2 * dice};
}

/// Of pixels' logits, or else of `rows` and `cells` of kernels::CellLogits.
struct MaskLoss : torch::autograd::Function<MaskLoss> {
    using Part = std::optional<at::Tensor>;

    static variable_list forward(AutogradContext* ctx, const Part& pixels, const Part& rows,
                                 const Part& cells, std::int64_t frames, const at::Tensor& y,
                                 const Coefficients& k) {
        const kernels::CellLogits logits = {tensor(rows), tensor(cells), frames};
        const Terms terms = terms_of(pixels ? kernels::mask_sums(pixels->flatten(1), y.flatten(1))
                                            : kernels::mask_sums(logits, y),
                                     pixels_of_one(y), k);
        const Quotients& q = terms.quotients;
        ctx->save_for_backward(
            {tensor(pixels), logits.rows, logits.cells, y, q.weight, q.size, q.share});
        ctx->saved_data["frames"] = frames;
        ctx->saved_data["bce"] = k.bce;
        ctx->saved_data["dice"] = k.dice;
        ctx->saved_data["l2"] = k.l2;
        const auto dtype = (pixels ? pixels : rows ? rows : cells)->scalar_type();
        variable_list out = {terms.bce.to(dtype), terms.dice.to(dtype), terms.l2.to(dtype),
                             terms.total.to(dtype)};
        ctx->mark_non_differentiable({out[0], out[1], out[2]});
        return out;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor &pixels = saved[0], &y = saved[3];
        const auto of = [&](const char* name) { return ctx->saved_data[name].toDouble(); };
        const kernels::MaskSlopes slopes =
            slopes_of({saved[4], saved[5], saved[6]}, pixels_of_one(y),
                      {of("bce"), of("dice"), of("l2"), /*positive_class_weight=*/false}, grads[3]);
        variable_list result(6);
        if (pixels.defined()) {
            result[0] =
                kernels::mask_gradient(pixels.flatten(1), y.flatten(1), slopes).view_as(pixels);
        } else {
            const kernels::CellLogits grad = kernels::mask_gradient(
                {saved[1], saved[2], ctx->saved_data["frames"].toInt()}, y, slopes);
            result[1] = grad.rows;
            result[2] = grad.cells;
        }
        return result;
    }

    static Part part(const at::Tensor& tensor) { return tensor.defined() ? Part(tensor) : Part(); }

private:
    static at::Tensor tensor(const Part& part) { return part.value_or(at::Tensor()); }
    static double pixels_of_one(const at::Tensor& y) {
        return static_cast<double>(y.flatten(1).size(1));
    }
};

LossTerms run(const at::Tensor& pixels, const kernels::CellLogits& logits, const at::Tensor& target,
              const AlignmentConfig& config) {
    const Coefficients k{config.bce, config.dice, config.l2, config.positive_class_weight};
    const variable_list out =
        MaskLoss::apply(MaskLoss::part(pixels), MaskLoss::part(logits.rows),
                        MaskLoss::part(logits.cells), logits.frames, target, k);
    return {out[0], out[1], out[2], out[3]};
}

}  // namespace

LossTerms mask_loss(const at::Tensor& logits, const at::Tensor& target,
                    const AlignmentConfig& config) {
    TORCH_CHECK(logits.dim() == 4 && logits.sizes() == target.sizes(),
                "mask loss wants logits and target [E, T, H, W], got ", logits.sizes(), " and ",
                target.sizes());
    return run(logits, {}, target, config);
}

LossTerms mask_loss(const kernels::CellLogits& logits, const at::Tensor& target,
                    const AlignmentConfig& config) {
    return run({}, logits, target, config);
}

}  // namespace matrix::alignment
