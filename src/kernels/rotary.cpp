#include "matrix/kernels/rotary.h"

#include "kernels/pass/norm_rotate.h"
#include "kernels/pass/run.h"
#include "kernels/pass/tensors.h"
#include "kernels/self_check.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace matrix::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Multiplies the pairs of the rows from `text_rows` on by `rotation`, in place.
void rotate_rows_(const at::Tensor& x, const at::Tensor& rotation, int64_t text_rows) {
    const at::Tensor rows =
        x.narrow(1, text_rows, x.size(1) - text_rows);  // [B, N, heads, head_dim]
    const std::vector<int64_t> pairs = {rows.size(0), rows.size(1), rows.size(2), rows.size(3) / 2,
                                        2};
    if (x.scalar_type() == at::kFloat) {
        at::view_as_complex(rows.view(pairs)).mul_(rotation);
        return;
    }
    const at::Tensor wide = rows.to(at::kFloat).view(pairs);
    at::view_as_complex(wide).mul_(rotation);
    rows.copy_(wide.view(rows.sizes()));
}

struct NormRotate : torch::autograd::Function<NormRotate> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias, double eps,
                              const std::optional<at::Tensor>& rotation, int64_t text_rows) {
        auto [y, mean, rstd] = at::native_layer_norm(x, {x.size(3)}, weight, bias, eps);
        if (rotation) {
            rotate_rows_(y, *rotation, text_rows);
        }
        ctx->save_for_backward({x, weight, bias, mean, rstd, rotation.value_or(at::Tensor())});
        ctx->saved_data["text_rows"] = text_rows;
        return y;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor& x = saved[0];
        const at::Tensor grad = grads[0].clone(at::MemoryFormat::Contiguous);
        if (saved[5].defined()) {
            // The inverse of a rotation is its conjugate.
            rotate_rows_(grad, at::conj(saved[5]).resolve_conj(),
                         ctx->saved_data["text_rows"].toInt());
        }
        at::Tensor grad_x = std::get<0>(at::native_layer_norm_backward(
            grad, x, {x.size(3)}, saved[3], saved[4], saved[1], saved[2], {true, false, false}));
        return {grad_x, {}, {}, {}, {}, {}};
    }
};

template <class T>
pass::Heads<T> heads_of(const at::Tensor& x) {
    return {pass::data<T>(x), x.stride(0), x.stride(1), x.stride(2)};
}

/// Heads may lie anywhere, a head's channels must lie side by side.
at::Tensor with_joint_channels(const at::Tensor& x) {
    return x.stride(3) == 1 ? x : x.contiguous();
}

struct OnePassNormRotate : torch::autograd::Function<OnePassNormRotate> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input,
                              const at::Tensor& weight, const at::Tensor& bias, double eps,
                              const std::optional<at::Tensor>& rotation, int64_t text_rows) {
        const at::Tensor x = with_joint_channels(input), w = weight.to(at::kFloat).contiguous(),
                         b = bias.to(at::kFloat).contiguous(),
                         turn = rotation ? rotation->contiguous() : at::Tensor();
        at::Tensor y = at::empty(x.sizes(), x.options());
        const at::Tensor statistics = at::empty({2, x.size(0), x.size(1), x.size(2)}, w.options());
        auto* const mean = pass::data<float>(statistics);
        const pass::HeadShape shape{x.size(1), x.size(2), x.size(3), text_rows};
        pass::with_element_of(x, [&]<class T>(T) {
            pass::run_rows(
                x,
                pass::NormRotate<T>{.x = heads_of<const T>(x),
                                    .weight = pass::data<float>(w),
                                    .bias = pass::data<float>(b),
                                    .eps = static_cast<float>(eps),
                                    .rotation = turn.defined() ? pass::data<float>(turn) : nullptr,
                                    .y = heads_of<T>(y),
                                    .mean = mean,
                                    .rstd = mean + statistics.numel() / 2,
                                    .shape = shape},
                x.size(0) * x.size(1), x.size(2) * x.size(3));
        });
        ctx->save_for_backward({input, w, statistics, turn});
        ctx->saved_data["text_rows"] = text_rows;
        return y;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor x = with_joint_channels(saved[0]), grad = with_joint_channels(grads[0]);
        const at::Tensor& turn = saved[3];
        at::Tensor grad_x = at::empty(x.sizes(), x.options());
        const auto* const mean = pass::data<float>(saved[2]);
        const pass::HeadShape shape{x.size(1), x.size(2), x.size(3),
                                    ctx->saved_data["text_rows"].toInt()};
        pass::with_element_of(x, [&]<class T>(T) {
            pass::run_rows(x,
                           pass::NormRotateBackward<T>{
                               .grad = heads_of<const T>(grad),
                               .x = heads_of<const T>(x),
                               .weight = pass::data<float>(saved[1]),
                               .rotation = turn.defined() ? pass::data<float>(turn) : nullptr,
                               .mean = mean,
                               .rstd = mean + saved[2].numel() / 2,
                               .grad_x = heads_of<T>(grad_x),
                               .shape = shape},
                           x.size(0) * x.size(1), x.size(2) * x.size(3));
        });
        return {grad_x, {}, {}, {}, {}, {}};
    }
};

Comparison compare_norm_rotate(const at::TensorOptions& options) {
    constexpr std::int64_t kText = 2, kRows = 7, kHeads = 3, kHeadDim = 64;
    const at::TensorOptions wide = options.dtype(at::kFloat);
    const at::Tensor angle = check_values({kRows - kText, 1, kHeadDim / 2}, wide, 1);
    const auto with = [&]<class Function>(Function) {
        return with_gradients(
            [&](const auto& x) {
                return Function::apply(x[0], check_values(kHeadDim, options, 2),
                                       check_values(kHeadDim, options, 3), 1e-6,
                                       std::optional(at::complex(angle.cos(), angle.sin())), kText);
            },
            {check_values({2, kRows, kHeads, kHeadDim}, options, 4)});
    };
    return {with(OnePassNormRotate()), with(NormRotate())};
}

}  // namespace

at::Tensor norm_rotate(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       double eps, const at::Tensor& rotation, std::int64_t text_rows) {
    TORCH_CHECK(x.dim() == 4, "norm_rotate wants [B, S, heads, head_dim]");
    TORCH_CHECK(weight.numel() == x.size(3) && bias.numel() == x.size(3), "norm_rotate: weight ",
                weight.sizes(), ", bias ", bias.sizes(), " for ", x.sizes());
    TORCH_CHECK(!rotation.defined() || (rotation.scalar_type() == at::kComplexFloat &&
                                        rotation.size(0) == x.size(1) - text_rows &&
                                        2 * rotation.size(2) == x.size(3)),
                "norm_rotate: the rotation has ", rotation.sizes(), " for ", x.sizes());
    // Autograd's functions take an absent tensor as an empty optional alone.
    const auto turn = rotation.defined() ? std::optional(rotation) : std::nullopt;
    if (has_passes(x, "LayerNorm and rotation", compare_norm_rotate)) {
        return OnePassNormRotate::apply(x, weight, bias, eps, turn, text_rows);
    }
    return NormRotate::apply(x, weight, bias, eps, turn, text_rows);
}

}  // namespace matrix::kernels
