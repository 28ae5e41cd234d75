#include "matrix/kernels/feed_forward.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "matrix/kernels/linear.h"

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

struct FeedForward : torch::autograd::Function<FeedForward> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& w1,
                              const at::Tensor& b1, const at::Tensor& w2, const at::Tensor& b2,
                              FeedForwardMode mode, at::Tensor* hidden_slot) {
        const at::Tensor rows = x.reshape({-1, x.size(-1)});  // [R, D]
        at::Tensor out, kept;                                 // [R, D], [R, I]
        if (mode == FeedForwardMode::kGraphOnly) {
            out = shape_only(rows.sizes(), rows.options());
            if (hidden_slot != nullptr) {
                kept = *hidden_slot;
            }
        } else {
            out = at::empty_like(rows);
            if (mode == FeedForwardMode::kKeepHidden) {
                kept = at::empty({rows.size(0), w1.size(0)}, rows.options());
                if (hidden_slot != nullptr) {
                    *hidden_slot = kept;
                }
            }
            for_each_chunk(rows.size(0), [&](int64_t begin, int64_t count) {
                const at::Tensor hidden = at::linear(rows.narrow(0, begin, count), w1, b1);
                if (kept.defined()) {
                    kept.narrow(0, begin, count).copy_(hidden);
                }
                out.narrow(0, begin, count).copy_(at::linear(at::gelu(hidden, "tanh"), w2, b2));
            });
        }
        ctx->save_for_backward({kept.defined() ? at::Tensor() : rows, kept, w1, b1, w2});
        return out.view(x.sizes());
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor& rows = saved[0];
        const at::Tensor& kept = saved[1];
        const at::Tensor& w1 = saved[2];
        const at::Tensor grad = grads[0].reshape({-1, grads[0].size(-1)});  // [R, D]
        at::Tensor grad_rows = at::empty({grad.size(0), w1.size(1)}, grad.options());
        for_each_chunk(grad.size(0), [&](int64_t begin, int64_t count) {
            const at::Tensor hidden = kept.defined()
                                          ? kept.narrow(0, begin, count)
                                          : at::linear(rows.narrow(0, begin, count), w1, saved[3]);
            const at::Tensor grad_hidden = at::gelu_backward(
                at::matmul(grad.narrow(0, begin, count), saved[4]), hidden, "tanh");
            at::Tensor target = grad_rows.narrow(0, begin, count);
            at::mm_out(target, grad_hidden, w1);
        });
        return {grad_rows.view(grads[0].sizes()), {}, {}, {}, {}, {}, {}};
    }
};

}  // namespace

at::Tensor feed_forward(const at::Tensor& x, const at::Tensor& w1, const at::Tensor& b1,
                        const at::Tensor& w2, const at::Tensor& b2, FeedForwardMode mode,
                        at::Tensor* hidden) {
    TORCH_CHECK(x.size(-1) == w1.size(1) && w1.size(0) == w2.size(1), "feed_forward: x ", x.sizes(),
                ", w1 ", w1.sizes(), ", w2 ", w2.sizes());
    return FeedForward::apply(x, w1, b1, w2, b2, mode, hidden);
}

}  // namespace matrix::kernels
