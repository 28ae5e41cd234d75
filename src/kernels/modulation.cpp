#include "matrix/kernels/modulation.h"

#include "kernels/cpu/modulation.h"
#include "kernels/cpu/tensors.h"

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

/// Both ranges' values side by side, in float32: [B, 2, D] for x [B, S, D].
at::Tensor by_range(const RowValues& values, const at::Tensor& x) {
    at::Tensor both = at::cat({values.text, values.video}, 1).to(at::kFloat);
    TORCH_CHECK(both.dim() == 3 && both.size(0) == x.size(0) && both.size(1) == 2 &&
                    both.size(2) == x.size(2),
                "row values ", values.text.sizes(), " and ", values.video.sizes(), " for ",
                x.sizes());
    return both;
}

cpu::RowRanges ranges_of(const at::Tensor& x, int64_t text_rows) {
    return {x.size(1), text_rows, x.size(2)};
}

void run_rows_of(const at::Tensor& x, const auto& loop) {
    cpu::run_rows(loop, x.size(0) * x.size(1), x.size(2));
}

struct CpuLayerNormModulate : torch::autograd::Function<CpuLayerNormModulate> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input,
                              const std::optional<at::Tensor>& weight,
                              const std::optional<at::Tensor>& bias, double eps, int64_t text_rows,
                              const RowValues& shift, const RowValues& scale) {
        const at::Tensor x = input.contiguous();
        // (x_hat weight + bias) (1 + scale) + shift = x_hat factor + offset
        at::Tensor factor = by_range(scale, x).add_(1), offset = by_range(shift, x);
        if (bias) {
            offset.addcmul_(factor, bias->to(at::kFloat));
        }
        if (weight) {
            factor.mul_(weight->to(at::kFloat));
        }
        at::Tensor y = at::empty_like(x);
        const at::Tensor statistics = at::empty({2, x.size(0), x.size(1)}, factor.options());
        auto* const mean = cpu::data<float>(statistics);
        cpu::with_element_of(x, [&]<class T>(T) {
            run_rows_of(x, cpu::NormModulate<T>{.x = cpu::data<const T>(x),
                                                .factor = cpu::data<float>(factor),
                                                .offset = cpu::data<float>(offset),
                                                .eps = static_cast<float>(eps),
                                                .y = cpu::data<T>(y),
                                                .mean = mean,
                                                .rstd = mean + x.size(0) * x.size(1),
                                                .ranges = ranges_of(x, text_rows)});
        });
        ctx->save_for_backward({input, factor, statistics});
        ctx->saved_data["text_rows"] = text_rows;
        return y;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor x = saved[0].contiguous(), grad = grads[0].contiguous();
        at::Tensor grad_x = at::empty_like(x);
        const auto* const mean = cpu::data<float>(saved[2]);
        cpu::with_element_of(x, [&]<class T>(T) {
            run_rows_of(x, cpu::NormModulateBackward<T>{
                               .grad = cpu::data<const T>(grad),
                               .x = cpu::data<const T>(x),
                               .factor = cpu::data<float>(saved[1]),
                               .mean = mean,
                               .rstd = mean + x.size(0) * x.size(1),
                               .grad_x = cpu::data<T>(grad_x),
                               .ranges = ranges_of(x, ctx->saved_data["text_rows"].toInt())});
        });
        return {grad_x, {}, {}, {}, {}, {}, {}};
    }
};

/// x + gate y, or gate y without x.
at::Tensor cpu_add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate,
                         int64_t text_rows) {
    at::Tensor out = at::empty(y.sizes(), y.options());
    const at::Tensor from = y.contiguous(), to = x.defined() ? x.contiguous() : x;
    cpu::with_element_of(y, [&]<class T>(T) {
        run_rows_of(y, cpu::AddGated<T>{.x = to.defined() ? cpu::data<const T>(to) : nullptr,
                                        .y = cpu::data<const T>(from),
                                        .gate = cpu::data<float>(gate),
                                        .out = cpu::data<T>(out),
                                        .ranges = ranges_of(y, text_rows)});
    });
    return out;
}

struct CpuGatedResidual : torch::autograd::Function<CpuGatedResidual> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& y,
                              int64_t text_rows, const RowValues& gate,
                              const std::optional<at::Tensor>& kept) {
        const at::Tensor gates = by_range(gate, y);
        ctx->save_for_backward({gates});
        ctx->saved_data["text_rows"] = text_rows;
        return kept ? kept->alias() : cpu_add_gated(x, y, gates, text_rows);
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        return {grads[0],
                cpu_add_gated({}, grads[0], ctx->get_saved_variables()[0],
                              ctx->saved_data["text_rows"].toInt()),
                {},
                {},
                {}};
    }
};

}  // namespace

at::Tensor layer_norm_modulate(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, double eps, std::int64_t text_rows,
                               const RowValues& shift, const RowValues& scale) {
    TORCH_CHECK(x.dim() == 3 && text_rows <= x.size(1), "layer_norm_modulate wants [B, S, D]");
    if (cpu::has_loops(x)) {
        return CpuLayerNormModulate::apply(x, optional(weight), optional(bias), eps, text_rows,
                                           shift, scale);
    }
    return LayerNormModulate::apply(x, optional(weight), optional(bias), eps, text_rows, shift,
                                    scale);
}

at::Tensor gated_residual(const at::Tensor& x, const at::Tensor& y, std::int64_t text_rows,
                          const RowValues& gate, const std::optional<at::Tensor>& kept) {
    TORCH_CHECK(x.dim() == 3 && x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type(),
                "gated_residual wants equal [B, S, D], got ", x.scalar_type(), " ", x.sizes(),
                " and ", y.scalar_type(), " ", y.sizes());
    if (cpu::has_loops(x)) {
        return CpuGatedResidual::apply(x, y, text_rows, gate, kept);
    }
    return GatedResidual::apply(x, y, text_rows, gate, kept);
}

}  // namespace matrix::kernels
