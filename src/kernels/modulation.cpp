#include "matrix/kernels/modulation.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace matrix::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor text_range(const at::Tensor& x, int64_t text_rows) {
    return x.narrow(1, 0, text_rows);
}
at::Tensor video_range(const at::Tensor& x, int64_t text_rows) {
    return x.narrow(1, text_rows, x.size(1) - text_rows);
}

/// Autograd's functions take an absent tensor as an empty optional alone.
std::optional<at::Tensor> optional(const at::Tensor& tensor) {
    return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

struct LayerNormModulate : torch::autograd::Function<LayerNormModulate> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                              const std::optional<at::Tensor>& weight,
                              const std::optional<at::Tensor>& bias, double eps, int64_t text_rows,
                              const RowValues& shift, const RowValues& scale) {
        auto [y, mean, rstd] = at::native_layer_norm(x, {x.size(2)}, weight, bias, eps);
        const at::Tensor text_factor = scale.text + 1;
        const at::Tensor video_factor = scale.video + 1;
        text_range(y, text_rows).mul_(text_factor).add_(shift.text);
        video_range(y, text_rows).mul_(video_factor).add_(shift.video);
        ctx->save_for_backward({x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor()), mean,
                                rstd, text_factor, video_factor});
        ctx->saved_data["text_rows"] = text_rows;
        return y;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const int64_t text_rows = ctx->saved_data["text_rows"].toInt();
        const at::Tensor grad = grads[0].clone(at::MemoryFormat::Contiguous);
        text_range(grad, text_rows).mul_(saved[5]);
        video_range(grad, text_rows).mul_(saved[6]);
        const at::Tensor& x = saved[0];
        at::Tensor grad_x = std::get<0>(at::native_layer_norm_backward(
            grad, x, {x.size(2)}, saved[3], saved[4], optional(saved[1]), optional(saved[2]),
            {true, false, false}));
        return {grad_x, {}, {}, {}, {}, {}, {}};
    }
};

struct GatedResidual : torch::autograd::Function<GatedResidual> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& y,
                              int64_t text_rows, const RowValues& gate,
                              const std::optional<at::Tensor>& kept) {
        ctx->save_for_backward({gate.text, gate.video});
        ctx->saved_data["text_rows"] = text_rows;
        if (kept) {
            return kept->alias();
        }
        at::Tensor out = at::empty_like(x);
        at::Tensor text = text_range(out, text_rows);
        at::Tensor video = video_range(out, text_rows);
        at::mul_out(text, text_range(y, text_rows), gate.text);
        at::mul_out(video, video_range(y, text_rows), gate.video);
        return out.add_(x);
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const int64_t text_rows = ctx->saved_data["text_rows"].toInt();
        at::Tensor grad_y = grads[0].clone(at::MemoryFormat::Contiguous);
        text_range(grad_y, text_rows).mul_(saved[0]);
        video_range(grad_y, text_rows).mul_(saved[1]);
        return {grads[0], grad_y, {}, {}, {}};
    }
};

}  // namespace

at::Tensor layer_norm_modulate(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, double eps, std::int64_t text_rows,
                               const RowValues& shift, const RowValues& scale) {
    TORCH_CHECK(x.dim() == 3 && text_rows <= x.size(1), "layer_norm_modulate wants [B, S, D]");
    return LayerNormModulate::apply(x, optional(weight), optional(bias), eps, text_rows, shift,
                                    scale);
}

at::Tensor gated_residual(const at::Tensor& x, const at::Tensor& y, std::int64_t text_rows,
                          const RowValues& gate, const std::optional<at::Tensor>& kept) {
    TORCH_CHECK(x.sizes() == y.sizes(), "gated_residual wants equal shapes");
    return GatedResidual::apply(x, y, text_rows, gate, kept);
}

}  // namespace matrix::kernels
