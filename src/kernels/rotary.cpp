#include "matrix/kernels/rotary.h"

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

}  // namespace

at::Tensor norm_rotate(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       double eps, const at::Tensor& rotation, std::int64_t text_rows) {
    TORCH_CHECK(x.dim() == 4, "norm_rotate wants [B, S, heads, head_dim]");
    TORCH_CHECK(!rotation.defined() || (rotation.size(0) == x.size(1) - text_rows &&
                                        rotation.size(2) == x.size(3) / 2),
                "norm_rotate: the rotation has ", rotation.sizes(), " for ", x.sizes());
    // Autograd's functions take an absent tensor as an empty optional alone.
    return NormRotate::apply(x, weight, bias, eps,
                             rotation.defined() ? std::optional(rotation) : std::nullopt,
                             text_rows);
}

}  // namespace matrix::kernels
