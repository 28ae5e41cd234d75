#include "matrix/alignment/losses.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

// E entities, n pixels of an entity, c pixels of a chunk; x logits, y target, s = sigmoid(x).

namespace matrix::alignment {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Pixels of all entities together that one chunk holds: 16 MiB per float32 temporary.
constexpr std::int64_t kChunkElements = 4 << 20;

struct Coefficients {
    double bce, dice, l2;
    bool positive_class_weight;
};

// Without entities all pixels are one chunk, however many a shape claims.
std::int64_t chunk_pixels(const at::Tensor& x) {
    return x.size(0) == 0 ? std::max<std::int64_t>(1, x.size(1))
                          : std::max<std::int64_t>(1, kChunkElements / x.size(0));
}

struct Chunk {
    at::Tensor x, y;  // [E, c]
};

Chunk chunk_at(const at::Tensor& x, const at::Tensor& y, std::int64_t begin, std::int64_t step) {
    const std::int64_t count = std::min(step, x.size(1) - begin);
    return {x.narrow(1, begin, count), y.narrow(1, begin, count).to(x.scalar_type())};
}

// Sums over an entity's pixels, [E] float64.
struct Sums {
    at::Tensor positives, positive_bce, all_bce, overlap, foreground, squares;

    void add(const Chunk& c) {
        const at::Tensor s = at::sigmoid(c.x);
        // log(1 + exp(-x)) where y = 1, log(1 + exp(x)) where y = 0.
        const at::Tensor bce = at::softplus(c.x * (1 - 2 * c.y));
        accumulate(positives, c.y);
        accumulate(positive_bce, c.y * bce);
        accumulate(all_bce, bce);
        accumulate(overlap, s * c.y);
        accumulate(foreground, s);
        accumulate(squares, (s - c.y).square_());
    }

private:
    static void accumulate(at::Tensor& total, const at::Tensor& values) {
        const at::Tensor sum = values.sum(1, /*keepdim=*/false, at::kDouble);
        total = total.defined() ? total.add_(sum) : sum;
    }
};

struct MaskLoss : torch::autograd::Function<MaskLoss> {
    static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& y,
                                 const Coefficients& k) {
        Sums sums;
        const std::int64_t step = chunk_pixels(x);
        for (std::int64_t begin = 0; begin < x.size(1); begin += step) {
            sums.add(chunk_at(x, y, begin, step));
        }
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
        const auto column = [&](const at::Tensor& value) {
            return value.unsqueeze(1).to(x.scalar_type());  // [E, 1]
        };
        const at::Tensor extra_weight = column(saved[2] - 1);
        const at::Tensor per_bce = (factor("bce") / n).to(x.scalar_type());
        const at::Tensor per_square = (2 * factor("l2") / n).to(x.scalar_type());
        // d dice / d s = (2 I + 1) / U^2 - 2 y / U
        const at::Tensor dice_everywhere = column(factor("dice") * saved[4] / saved[3]);
        const at::Tensor dice_inside = column(factor("dice") * -2 / saved[3]);

        at::Tensor grad = at::empty_like(x);
        const std::int64_t step = chunk_pixels(x);
        for (std::int64_t begin = 0; begin < x.size(1); begin += step) {
            const Chunk c = chunk_at(x, y, begin, step);
            const at::Tensor s = at::sigmoid(c.x);
            const at::Tensor miss = s - c.y;
            at::Tensor by_s = (miss * per_square).addcmul_(c.y, dice_inside).add_(dice_everywhere);
            by_s.mul_(s).mul_(1 - s);
            const at::Tensor bce_weight = (c.y * extra_weight).add_(1).mul_(per_bce);
            grad.narrow(1, begin, c.x.size(1)).copy_(by_s.addcmul_(miss, bce_weight));
        }
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
