#include "matrix/kernels/feed_forward.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/pass/gelu.h"
#include "kernels/pass/run.h"
#include "kernels/pass/tensors.h"
#include "kernels/self_check.h"
#include "matrix/kernels/fp8.h"

namespace matrix::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class Visit>
void for_each_chunk(int64_t rows, Visit visit) {
    const int64_t chunk = feed_forward_chunk_rows(rows);
    for (int64_t begin = 0; begin < rows; begin += chunk) {
        visit(begin, std::min(chunk, rows - begin));
    }
}

// GELU over [rows, I], which may be in place; `bias` is added on the way, or null.

void gelu_pass(const at::Tensor& y, const at::Tensor& x, const float* bias) {
    pass::with_element_of(x, [&]<class T>(T) {
        pass::run_rows(x,
                       pass::Gelu<T>{.x = pass::data<const T>(x),
                                     .bias = bias,
                                     .y = pass::data<T>(y),
                                     .width = x.size(1)},
                       x.size(0), x.size(1));
    });
}

void gelu_backward_pass(const at::Tensor& grad, const at::Tensor& x, const float* bias) {
    pass::with_element_of(x, [&]<class T>(T) {
        pass::run_rows(x,
                       pass::GeluBackward<T>{.x = pass::data<const T>(x),
                                             .bias = bias,
                                             .grad = pass::data<T>(grad),
                                             .width = x.size(1)},
                       x.size(0), x.size(1));
    });
}

Comparison compare_gelu(const at::TensorOptions& options) {
    const at::Tensor x = check_values({3, 1032}, options, 1),
                     grad = check_values({3, 1032}, options, 2),
                     bias = check_values(1032, options.dtype(at::kFloat), 3), y = at::empty_like(x),
                     grad_x = grad.clone(), biased = (x.to(at::kFloat) + bias).to(x.scalar_type());
    gelu_pass(y, x, pass::data<const float>(bias));
    gelu_backward_pass(grad_x, x, pass::data<const float>(bias));
    return {{y, grad_x}, {at::gelu(biased, "tanh"), at::gelu_backward(grad, biased, "tanh")}};
}

bool has_gelu(const at::Tensor& hidden) {
    return has_passes(hidden, "GELU", compare_gelu);
}

/// Whether `hidden` [rows, I] is x w1^T and b1 is added on the way through the GELU. Where products
/// are rounded to fewer bits, b1 is added before that.
bool adds_bias_late(const at::Tensor& hidden) {
    return hidden.scalar_type() == at::kFloat && has_gelu(hidden);
}

const float* late_bias(const at::Tensor& hidden, const at::Tensor& b1) {
    return adds_bias_late(hidden) ? pass::data<const float>(b1) : nullptr;
}

void product(at::Tensor out, const at::Tensor& x, const LinearMap& map, const at::Tensor& bias) {
    if (map.weight_scale.defined()) {
        fp8_product_out(out, fp8_rows(x), {map.weight, map.weight_scale}, bias);
    } else if (bias.defined()) {
        at::addmm_out(out, bias, x, map.weight.t());
    } else {
        at::mm_out(out, x, map.weight.t());
    }
}

void first_product(const at::Tensor& hidden, const at::Tensor& x, const LinearMap& first) {
    product(hidden, x, first, adds_bias_late(hidden) ? at::Tensor() : first.bias);
}

/// `active` may be `hidden`.
void activate(at::Tensor active, const at::Tensor& hidden, const at::Tensor& b1) {
    if (has_gelu(hidden)) {
        gelu_pass(active, hidden, late_bias(hidden, b1));
    } else {
        at::gelu_out(active, hidden, "tanh");
    }
}

/// The gradient of the GELU's input in place of that of its output.
void activate_backward_(at::Tensor grad, const at::Tensor& hidden, const at::Tensor& b1) {
    if (has_gelu(hidden)) {
        gelu_backward_pass(grad, hidden, late_bias(hidden, b1));
    } else {
        at::gelu_backward_out(grad, grad, hidden, "tanh");
    }
}

/// Room for the inner activation of the longest chunk, undefined where it is not wanted.
at::Tensor chunk_buffer(bool wanted, const at::Tensor& rows, const LinearMap& first) {
    return wanted ? at::empty({feed_forward_chunk_rows(rows.size(0)), first.weight.size(0)},
                              rows.options())
                  : at::Tensor();
}

/// What a gradient multiplies by.
at::Tensor wide_weight(const LinearMap& map, const at::Tensor& grad) {
    return map.weight_scale.defined() ? widened({map.weight, map.weight_scale}, grad.scalar_type())
                                      : map.weight;
}

struct FeedForward : torch::autograd::Function<FeedForward> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const LinearMap& first,
                              const LinearMap& second, FeedForwardMode mode,
                              at::Tensor* hidden_slot) {
        const at::Tensor rows = x.reshape({-1, x.size(-1)});  // [R, D]
        at::Tensor out, kept;                                 // [R, D], [R, I]
        if (mode == FeedForwardMode::kGraphOnly) {
            out = shape_only(rows.sizes(), rows.options());
            if (hidden_slot != nullptr) {
                kept = *hidden_slot;
            }
        } else {
            out = at::empty(rows.sizes(), rows.options());
            if (mode == FeedForwardMode::kKeepHidden) {
                kept = at::empty({rows.size(0), first.weight.size(0)}, rows.options());
                if (hidden_slot != nullptr) {
                    *hidden_slot = kept;
                }
            }
            const at::Tensor buffer = chunk_buffer(true, rows, first);
            for_each_chunk(rows.size(0), [&](int64_t begin, int64_t count) {
                const at::Tensor active = buffer.narrow(0, 0, count);
                const at::Tensor hidden = kept.defined() ? kept.narrow(0, begin, count) : active;
                first_product(hidden, rows.narrow(0, begin, count), first);
                activate(active, hidden, first.bias);
                product(out.narrow(0, begin, count), active, second, second.bias);
            });
        }
        ctx->save_for_backward({kept.defined() ? at::Tensor() : rows, kept, first.weight,
                                first.weight_scale, first.bias, second.weight,
                                second.weight_scale});
        return out.view(x.sizes());
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor &rows = saved[0], &kept = saved[1];
        LinearMap first, second;
        first.weight = saved[2];
        first.weight_scale = saved[3];
        first.bias = saved[4];
        second.weight = saved[5];
        second.weight_scale = saved[6];
        const at::Tensor grad = grads[0].reshape({-1, grads[0].size(-1)});  // [R, D]
        const at::Tensor w1 = wide_weight(first, grad), w2 = wide_weight(second, grad);
        at::Tensor grad_rows = at::empty({grad.size(0), w1.size(1)}, grad.options());
        const at::Tensor again = chunk_buffer(!kept.defined(), grad, first);
        const at::Tensor buffer = chunk_buffer(true, grad, first);
        for_each_chunk(grad.size(0), [&](int64_t begin, int64_t count) {
            if (again.defined()) {
                first_product(again.narrow(0, 0, count), rows.narrow(0, begin, count), first);
            }
            const at::Tensor hidden =
                kept.defined() ? kept.narrow(0, begin, count) : again.narrow(0, 0, count);
            at::Tensor grad_hidden = buffer.narrow(0, 0, count);
            at::mm_out(grad_hidden, grad.narrow(0, begin, count), w2);
            activate_backward_(grad_hidden, hidden, first.bias);
            at::Tensor target = grad_rows.narrow(0, begin, count);
            at::mm_out(target, grad_hidden, w1);
        });
        return {grad_rows.view(grads[0].sizes()), {}, {}, {}, {}};
    }
};

}  // namespace

at::Tensor feed_forward(const at::Tensor& x, const LinearMap& first, const LinearMap& second,
                        FeedForwardMode mode, at::Tensor* hidden) {
    const at::Tensor &w1 = first.weight, &b1 = first.bias, &w2 = second.weight;
    TORCH_CHECK(x.size(-1) == w1.size(1) && w1.size(0) == w2.size(1), "feed_forward: x ", x.sizes(),
                ", w1 ", w1.sizes(), ", w2 ", w2.sizes());
    TORCH_CHECK(
        b1.numel() == w1.size(0) && b1.is_contiguous() && b1.scalar_type() == x.scalar_type(),
        "feed_forward: b1 ", b1.scalar_type(), " ", b1.sizes(), " for ", x.scalar_type(), " w1 ",
        w1.sizes());
    TORCH_CHECK(!first.a.defined() && !second.a.defined(), "feed_forward: a low-rank addition");
    return FeedForward::apply(x, first, second, mode, hidden);
}

}  // namespace matrix::kernels
