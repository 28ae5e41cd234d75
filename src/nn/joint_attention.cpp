#include "matrix/nn/joint_attention.h"

#include <ATen/ATen.h>

#include <cmath>

#include "matrix/kernels/attention.h"
#include "matrix/kernels/rotary.h"

// Letters: B batch, S joint rows (text, then video), D width, H heads, d head_dim.

namespace matrix::nn {

JointAttention::Output JointAttention::operator()(const at::Tensor& x, const at::Tensor& rotation,
                                                  const TokenLayout& layout, const Tap& tap,
                                                  RecomputeMemo& memo) const {
    const std::int64_t batch = x.size(0), rows = x.size(1), head_dim = x.size(2) / heads;
    const auto split = [&](const at::Tensor& t) { return t.view({batch, rows, heads, head_dim}); };
    const auto norm_rotate = [&](const at::Tensor& t, const LayerNorm& norm) {
        return kernels::norm_rotate(split(t), norm.weight, norm.bias, norm.eps, rotation,
                                    layout.text_tokens)
            .transpose(1, 2);  // [B, H, S, d]
    };
    const at::Tensor q = norm_rotate(to_q(x), norm_q);
    const at::Tensor k = norm_rotate(to_k(x), norm_k);
    const at::Tensor v = split(to_v(x)).transpose(1, 2);

    const kernels::AttentionResult result =
        kernels::attention(q, k, v, 1.0 / std::sqrt(static_cast<double>(head_dim)), memo.attention);
    if (!memo.recomputing) {
        memo.attention = result;
    }
    const at::Tensor joined =
        result.output.transpose(1, 2).reshape({batch, rows, heads * head_dim});
    return {to_out(joined), tap ? tap({q, k, result.log_sum_exp, layout}) : at::Tensor()};
}

}  // namespace matrix::nn
