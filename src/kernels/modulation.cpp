#include "matrix/kernels/modulation.h"

#include "kernels/pass/modulation.h"
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

pass::RowRanges ranges_of(const at::Tensor& x, int64_t text_rows) {
    return {x.size(1), text_rows, x.size(2)};
}

void run_rows_of(const at::Tensor& x, const auto& pass) {
    pass::run_rows(x, pass, x.size(0) * x.size(1), x.size(2));
}

struct OnePassLayerNormModulate : torch::autograd::Function<OnePassLayerNormModulate> {
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
        auto* const mean = pass::data<float>(statistics);
        pass::with_element_of(x, [&]<class T>(T) {
            run_rows_of(x, pass::NormModulate<T>{.x = pass::data<const T>(x),
                                                 .factor = pass::data<float>(factor),
                                                 .offset = pass::data<float>(offset),
                                                 .eps = static_cast<float>(eps),
                                                 .y = pass::data<T>(y),
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
        const auto* const mean = pass::data<float>(saved[2]);
        pass::with_element_of(x, [&]<class T>(T) {
            run_rows_of(x, pass::NormModulateBackward<T>{
                               .grad = pass::data<const T>(grad),
                               .x = pass::data<const T>(x),
                               .factor = pass::data<float>(saved[1]),
                               .mean = mean,
                               .rstd = mean + x.size(0) * x.size(1),
                               .grad_x = pass::data<T>(grad_x),
                               .ranges = ranges_of(x, ctx->saved_data["text_rows"].toInt())});
        });
        return {grad_x, {}, {}, {}, {}, {}, {}};
    }
};

/// x + gate y, or gate y without x.
at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate,
                     int64_t text_rows) {
    at::Tensor out = at::empty(y.sizes(), y.options());
    const at::Tensor from = y.contiguous(), to = x.defined() ? x.contiguous() : x;
    pass::with_element_of(y, [&]<class T>(T) {
        run_rows_of(y, pass::AddGated<T>{.x = to.defined() ? pass::data<const T>(to) : nullptr,
                                         .y = pass::data<const T>(from),
                                         .gate = pass::data<float>(gate),
                                         .out = pass::data<T>(out),
                                         .ranges = ranges_of(y, text_rows)});
    });
    return out;
}

struct OnePassGatedResidual : torch::autograd::Function<OnePassGatedResidual> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& y,
                              int64_t text_rows, const RowValues& gate,
                              const std::optional<at::Tensor>& kept) {
        const at::Tensor gates = by_range(gate, y);
        ctx->save_for_backward({gates});
        ctx->saved_data["text_rows"] = text_rows;
        return kept ? kept->alias() : add_gated(x, y, gates, text_rows);
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        return {grads[0],
                add_gated({}, grads[0], ctx->get_saved_variables()[0],
                          ctx->saved_data["text_rows"].toInt()),
                {},
                {},
                {}};
    }
};

// [B, S, D] whose rows are as wide as several warps.
constexpr std::int64_t kChecked[] = {2, 5, 1032}, kCheckedText = 2;

RowValues checked_values(const at::TensorOptions& options, std::uint64_t seed) {
    const at::Tensor both = check_values({kChecked[0], 2, kChecked[2]}, options, seed);
    return {both.narrow(1, 0, 1), both.narrow(1, 1, 1)};
}

Comparison compare_layer_norm_modulate(const at::TensorOptions& options) {
    const auto parameter = [&](std::uint64_t seed) {
        return std::optional(check_values(kChecked[2], options, seed));
    };
    const auto with = [&]<class Function>(Function) {
        return with_gradients(
            [&](const auto& x) {
                return Function::apply(x[0], parameter(1), parameter(2), 1e-5, kCheckedText,
                                       checked_values(options, 3), checked_values(options, 4));
            },
            {check_values(kChecked, options, 5)});
    };
    return {with(OnePassLayerNormModulate()), with(LayerNormModulate())};
}

Comparison compare_gated_residual(const at::TensorOptions& options) {
    const auto with = [&]<class Function>(Function) {
        return with_gradients(
            [&](const auto& x) {
                return Function::apply(x[0], x[1], kCheckedText, checked_values(options, 1),
                                       std::optional<at::Tensor>());
            },
            {check_values(kChecked, options, 2), check_values(kChecked, options, 3)});
    };
    return {with(OnePassGatedResidual()), with(GatedResidual())};
}

}  // namespace

at::Tensor layer_norm_modulate(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, double eps, std::int64_t text_rows,
                               const RowValues& shift, const RowValues& scale) {
    TORCH_CHECK(x.dim() == 3 && text_rows <= x.size(1), "layer_norm_modulate wants [B, S, D]");
    if (has_passes(x, "LayerNorm and modulation", compare_layer_norm_modulate)) {
        return OnePassLayerNormModulate::apply(x, optional(weight), optional(bias), eps, text_rows,
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
    if (has_passes(x, "gated residuals", compare_gated_residual)) {
        return OnePassGatedResidual::apply(x, y, text_rows, gate, kept);
    }
    return GatedResidual::apply(x, y, text_rows, gate, kept);
}

}  // namespace matrix::kernels
