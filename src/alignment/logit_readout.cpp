#include "logit_readout.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

// B batch, H heads, c heads of a chunk, E entities, n pooled rows, R read rows, d head width.

namespace matrix::alignment {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Elements a chunk of heads may hold in the compute dtype: 32 MiB in float32.
constexpr std::int64_t kChunkElements = 8 << 20;

struct Shape {
    std::int64_t source_begin, rows_begin, num_rows;
    double factor;
};

at::ScalarType compute_dtype(const at::Tensor& t) {
    return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Heads [begin, begin + count) and rows [row, row + num) in the compute dtype.
at::Tensor part(const at::Tensor& t, std::int64_t head, std::int64_t heads, std::int64_t row,
                std::int64_t rows) {
    return t.narrow(1, head, heads).narrow(2, row, rows).to(compute_dtype(t));
}

std::int64_t heads_per_chunk(const at::Tensor& t, std::int64_t rows, std::int64_t entities) {
    const std::int64_t per_head = t.size(0) * rows * (t.size(3) + entities);
    return std::clamp<std::int64_t>(kChunkElements / std::max<std::int64_t>(per_head, 1), 1,
                                    t.size(1));
}

struct PooledProduct : torch::autograd::Function<PooledProduct> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& source,
                              const at::Tensor& rows, const at::Tensor& weights,
                              const Shape& shape) {
        const std::int64_t n = weights.size(2), entities = weights.size(1);
        const at::Tensor w = weights.to(compute_dtype(source)).unsqueeze(1);  // [B, 1, E, n]
        const std::int64_t step = heads_per_chunk(rows, std::max(n, shape.num_rows), entities);
        std::vector<at::Tensor> pooled;
        at::Tensor map;  // [B, E, R]
        for (std::int64_t head = 0; head < source.size(1); head += step) {
            const std::int64_t heads = std::min(step, source.size(1) - head);
            pooled.push_back(
                at::matmul(w, part(source, head, heads, shape.source_begin, n)));  // [B, c, E, d]
            const at::Tensor read =
                at::matmul(pooled.back(),
                           part(rows, head, heads, shape.rows_begin, shape.num_rows).mT())
                    .sum(1);  // [B, E, R]
            map = map.defined() ? map.add_(read) : read;
        }
        ctx->save_for_backward({source, rows, w, at::cat(pooled, 1)});
        ctx->saved_data["source_begin"] = shape.source_begin;
        ctx->saved_data["rows_begin"] = shape.rows_begin;
        ctx->saved_data["factor"] = shape.factor;
        return map.mul_(shape.factor);
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor &source = saved[0], &rows = saved[1], &w = saved[2], &pooled = saved[3];
        const std::int64_t source_begin = ctx->saved_data["source_begin"].toInt();
        const std::int64_t rows_begin = ctx->saved_data["rows_begin"].toInt();
        const at::Tensor grad =
            (grads[0].to(w.scalar_type()) * ctx->saved_data["factor"].toDouble())
                .unsqueeze(1);  // [B, 1, E, R]
        const std::int64_t n = w.size(3), num_rows = grad.size(3);
        at::Tensor grad_source, grad_rows;
        if (ctx->needs_input_grad(0)) {
            grad_source = at::zeros_like(source);
        }
        if (ctx->needs_input_grad(1)) {
            grad_rows = at::zeros_like(rows);
        }
        const std::int64_t step = heads_per_chunk(rows, std::max(n, num_rows), w.size(2));
        for (std::int64_t head = 0; head < source.size(1); head += step) {
            const std::int64_t heads = std::min(step, source.size(1) - head);
            if (grad_rows.defined()) {
                grad_rows.narrow(1, head, heads)
                    .narrow(2, rows_begin, num_rows)
                    .copy_(at::matmul(grad.mT(), pooled.narrow(1, head, heads)));  // [B, c, R, d]
            }
            if (grad_source.defined()) {
                const at::Tensor grad_pooled = at::matmul(
                    grad, part(rows, head, heads, rows_begin, num_rows));  // [B, c, E, d]
                grad_source.narrow(1, head, heads)
                    .narrow(2, source_begin, n)
                    .copy_(at::matmul(w.mT(), grad_pooled));  // [B, c, n, d]
            }
        }
        return {grad_source, grad_rows, {}, {}};
    }
};

}  // namespace

at::Tensor pooled_product(const at::Tensor& source, const at::Tensor& rows,
                          const at::Tensor& weights, std::int64_t source_begin,
                          std::int64_t rows_begin, std::int64_t num_rows, double factor) {
    return PooledProduct::apply(source, rows, weights,
                                Shape{source_begin, rows_begin, num_rows, factor});
}

}  // namespace matrix::alignment
