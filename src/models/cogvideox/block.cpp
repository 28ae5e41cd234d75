#include "models/cogvideox/block.h"

#include <ATen/ATen.h>

#include <cmath>

#include "matrix/kernels/attention.h"
#include "matrix/kernels/feed_forward.h"
#include "matrix/kernels/modulation.h"
#include "matrix/kernels/rotary.h"
#include "models/cogvideox/parts.h"

// Letters: B batch, S joint rows (text, then video), D width, H heads, d head_dim, E embedding width.

namespace matrix::models {
namespace {

constexpr double kQkNormEps = 1e-6;  // fixed in the reference's block, not in its config

LayerNormWeights take_norm(tensor_io::WeightSource& weights, const std::string& prefix, std::int64_t dim, bool affine) {
    if (!affine) {
        return {};
    }
    return {weights.take(prefix + ".weight", {dim}), weights.take(prefix + ".bias", {dim})};
}

/// The six modulations of a block half. The linear's chunks come video first: shift, scale, gate, then the text's.
struct Modulation {
    kernels::RowValues shift, scale, gate;
};

Modulation modulation(const nn::Linear& linear, const at::Tensor& silu_emb) {
    const std::vector<at::Tensor> chunks = linear(silu_emb).unsqueeze(1).chunk(6, 2);  // 6 x [B, 1, D]
    return {{chunks[3], chunks[0]}, {chunks[4], chunks[1]}, {chunks[5], chunks[2]}};
}

}  // namespace

CogVideoXBlock::CogVideoXBlock(const CogVideoXConfig& config, const std::string& prefix,
                               tensor_io::WeightSource& weights)
    : heads_(config.num_attention_heads), norm_eps_(config.norm_eps) {
    const std::int64_t dim = config.width(), head_dim = config.attention_head_dim;
    const bool affine = config.norm_elementwise_affine;
    modulation1_ = take_linear(weights, prefix + ".norm1.linear", 6 * dim, config.time_embed_dim);
    norm1_ = take_norm(weights, prefix + ".norm1.norm", dim, affine);
    const std::string attn = prefix + ".attn1";
    norm_q_weight_ = weights.take(attn + ".norm_q.weight", {head_dim});
    norm_q_bias_ = weights.take(attn + ".norm_q.bias", {head_dim});
    norm_k_weight_ = weights.take(attn + ".norm_k.weight", {head_dim});
    norm_k_bias_ = weights.take(attn + ".norm_k.bias", {head_dim});
    to_q = take_linear(weights, attn + ".to_q", dim, dim, config.attention_bias);
    to_k = take_linear(weights, attn + ".to_k", dim, dim, config.attention_bias);
    to_v = take_linear(weights, attn + ".to_v", dim, dim, config.attention_bias);
    to_out = take_linear(weights, attn + ".to_out.0", dim, dim);
    modulation2_ = take_linear(weights, prefix + ".norm2.linear", 6 * dim, config.time_embed_dim);
    norm2_ = take_norm(weights, prefix + ".norm2.norm", dim, affine);
    ff_in_ = take_linear(weights, prefix + ".ff.net.0.proj", 4 * dim, dim);
    ff_out_ = take_linear(weights, prefix + ".ff.net.2", dim, 4 * dim);
}

std::vector<at::Tensor> CogVideoXBlock::attend(const at::Tensor& x, const BlockContext& context, const nn::Tap& tap,
                                               nn::RecomputeMemo& memo) const {
    const std::int64_t batch = x.size(0), rows = x.size(1), head_dim = x.size(2) / heads_;
    const std::int64_t text_rows = context.layout.text_tokens;
    const auto heads = [&](const at::Tensor& t) { return t.view({batch, rows, heads_, head_dim}); };

    const at::Tensor q = kernels::norm_rotate(heads(to_q(x)), norm_q_weight_, norm_q_bias_, kQkNormEps,
                                              context.rotation, text_rows)
                             .transpose(1, 2);  // [B, H, S, d]
    const at::Tensor k = kernels::norm_rotate(heads(to_k(x)), norm_k_weight_, norm_k_bias_, kQkNormEps,
                                              context.rotation, text_rows)
                             .transpose(1, 2);
    const at::Tensor v = heads(to_v(x)).transpose(1, 2);

    const kernels::AttentionResult result =
        kernels::attention(q, k, v, 1.0 / std::sqrt(static_cast<double>(head_dim)), memo.attention);
    if (!memo.recomputing) {
        memo.attention = result;
    }
    const at::Tensor joined = result.output.transpose(1, 2).reshape({batch, rows, heads_ * head_dim});
    std::vector<at::Tensor> outputs = {to_out(joined)};
    if (tap) {
        outputs.push_back(tap({q, k, result.log_sum_exp, context.layout}));
    }
    return outputs;
}

std::vector<at::Tensor> CogVideoXBlock::run(const at::Tensor& x, const BlockContext& context, const nn::Tap& tap,
                                            bool keep_hidden, nn::RecomputeMemo& memo) const {
    const std::int64_t text_rows = context.layout.text_tokens;
    const auto mode = keep_hidden          ? kernels::FeedForwardMode::kKeepHidden
                      : memo.recomputing   ? kernels::FeedForwardMode::kGraphOnly
                                           : kernels::FeedForwardMode::kRecompute;

    const Modulation m1 = modulation(modulation1_, context.silu_emb);
    const at::Tensor n1 =
        kernels::layer_norm_modulate(x, norm1_.weight, norm1_.bias, norm_eps_, text_rows, m1.shift, m1.scale);
    std::vector<at::Tensor> attended = attend(n1, context, tap, memo);
    const at::Tensor middle = kernels::gated_residual(x, attended[0], text_rows, m1.gate);  // [B, S, D]

    const Modulation m2 = modulation(modulation2_, context.silu_emb);
    const at::Tensor n2 =
        kernels::layer_norm_modulate(middle, norm2_.weight, norm2_.bias, norm_eps_, text_rows, m2.shift, m2.scale);
    const at::Tensor ff =
        kernels::feed_forward(n2, ff_in_.weight, ff_in_.bias, ff_out_.weight, ff_out_.bias, mode);
    attended[0] = kernels::gated_residual(middle, ff, text_rows, m2.gate);
    return attended;
}

std::vector<at::Tensor> CogVideoXBlock::trainable() const {
    std::vector<at::Tensor> tensors;
    for (const nn::Linear* linear : {&to_q, &to_k, &to_v, &to_out}) {
        linear->collect_trainable(tensors);
    }
    return tensors;
}

}  // namespace matrix::models
