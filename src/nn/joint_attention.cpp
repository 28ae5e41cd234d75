#include "matrix/nn/joint_attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "matrix/kernels/attention.h"
#include "matrix/kernels/rotary.h"

// Letters: B batch, S joint rows (text, then video), R of them on this rank, D width, H heads, d
// head_dim, n ranks; on several ranks attention runs over all S rows of h = H / n heads, else R = S
// and h = H.

namespace matrix::nn {
namespace {

/// A tap's output for all heads from those of the ranks' heads.
at::Tensor over_all_heads(const at::Tensor& own, Tap::OverHeads how, const SequenceGroup& group) {
    const at::Tensor parts = of_all_ranks(own, group);  // [n, ...]
    if (how == Tap::OverHeads::kMean) {
        return parts.mean(0);
    }
    // Minus infinity, the log of an empty set's mean, has no gradient, not even a zero one.
    const at::Tensor finite = parts.clamp_min(std::numeric_limits<float>::lowest());
    return finite.logsumexp(0) - std::log(static_cast<double>(group.size()));
}

/// What a block keeps of its products.
kernels::LinearResult kept_of(const kernels::LinearResult& result, const RecomputeMemo& memo) {
    kernels::LinearResult kept = result;
    if (!memo.fills(Keep::kProducts)) {
        kept.low.assign(kept.low.size(), at::Tensor());
    }
    return kept;
}

}  // namespace

JointAttention::Output JointAttention::operator()(at::Tensor x, const at::Tensor& rotation,
                                                  const JointRows& rows, const Tap& tap,
                                                  const AttentionEdit& edit,
                                                  RecomputeMemo& memo) const {
    const std::int64_t head_dim = x.size(2) / heads;
    kernels::LinearResult projected = kernels::linear(
        x, {to_q.frozen(), to_k.frozen(), to_v.frozen()}, RecomputeMemo::take(memo.projections));
    x.reset();  // the graph holds what it needs of it
    if (memo.fills(Keep::kRows)) {
        memo.projections = kept_of(projected, memo);
    }
    const auto split = [&](const at::Tensor& t) { return t.unflatten(2, {heads, head_dim}); };
    const auto norm_rotate = [&](const at::Tensor& t, const LayerNorm& norm) {
        return kernels::norm_rotate(split(t), norm.weight, norm.bias, norm.eps, rotation,
                                    rows.text_rows);
    };
    at::Tensor q = norm_rotate(projected.outputs[0], norm_q);  // [B, R, H, d]
    at::Tensor k = norm_rotate(projected.outputs[1], norm_k);
    at::Tensor v = split(projected.outputs[2]);
    projected = {};
    if (rows.group != nullptr) {
        const auto parts = rows_to_heads(at::cat({q, k, v}, 3), rows).split(head_dim, 3);
        q = parts[0];  // [B, S, h, d]
        k = parts[1];
        v = parts[2];
    }
    q = q.transpose(1, 2);  // [B, h, S, d]
    k = k.transpose(1, 2);
    v = v.transpose(1, 2);

    const kernels::AttentionResult result =
        kernels::attention(q, k, v, 1.0 / std::sqrt(static_cast<double>(head_dim)),
                           RecomputeMemo::take(memo.attention));
    if (memo.fills(Keep::kOffloaded)) {
        memo.attention = result;
    }
    const at::Tensor output =
        edit ? edit({q, k, v, result.log_sum_exp, result.output, rows.layout}) : result.output;
    at::Tensor joined = output.transpose(1, 2);  // [B, S, h, d]
    at::Tensor read = tap ? tap({q, k, result.log_sum_exp, rows.layout}) : at::Tensor();
    if (rows.group != nullptr) {
        joined = heads_to_rows(joined, rows);  // [B, R, H, d]
        if (tap) {
            read = over_all_heads(read, tap.over_heads, *rows.group);
        }
    }
    const kernels::LinearResult out = kernels::linear(joined.flatten(2), {to_out.frozen()},
                                                      RecomputeMemo::take(memo.attention_out));
    if (memo.fills(Keep::kRows)) {
        memo.attention_out = kept_of(out, memo);
        // What is kept instead is the sum that this goes into.
        memo.attention_out->outputs[0] =
            kernels::shape_only(out.outputs[0].sizes(), out.outputs[0].options());
    }
    return {out.outputs[0], read};
}

}  // namespace matrix::nn
