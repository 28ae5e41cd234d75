#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <string>

#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/models/t5.h"
#include "models/t5/relative_position.h"

// n prompts, L tokens, H heads of d_kv channels.

namespace matrix::models {

namespace {

// Four prompts of 226 tokens and 64 heads: 52 MB of float32 scores, of which softmax holds two.
constexpr std::int64_t kPromptsPerPass = 4;

}  // namespace

T5Encoder::T5Encoder(const T5Config& config, tensor_io::WeightSource& weights) : config_(config) {
    const std::int64_t inner = config.num_heads * config.d_kv;
    const std::int64_t d_model = config.d_model;
    shared_ = weights.take("shared.weight", {config.vocab_size, d_model});
    weights.allow_copy("encoder.embed_tokens.weight", "shared.weight");
    relative_attention_bias_ =
        weights.take("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                     {config.relative_attention_num_buckets, config.num_heads});
    for (std::int64_t i = 0; i < config.num_layers; ++i) {
        const std::string prefix = "encoder.block." + std::to_string(i) + ".layer.";
        const std::string self_attention = prefix + "0.SelfAttention.";
        const std::string feed_forward = prefix + "1.DenseReluDense.";
        blocks_.push_back({
            .attention_norm = weights.take(prefix + "0.layer_norm.weight", {d_model}),
            .q = weights.take(self_attention + "q.weight", {inner, d_model}),
            .k = weights.take(self_attention + "k.weight", {inner, d_model}),
            .v = weights.take(self_attention + "v.weight", {inner, d_model}),
            .o = weights.take(self_attention + "o.weight", {d_model, inner}),
            .feed_forward_norm = weights.take(prefix + "1.layer_norm.weight", {d_model}),
            .wi_0 = weights.take(feed_forward + "wi_0.weight", {config.d_ff, d_model}),
            .wi_1 = weights.take(feed_forward + "wi_1.weight", {config.d_ff, d_model}),
            .wo = weights.take(feed_forward + "wo.weight", {d_model, config.d_ff}),
        });
    }
    final_layer_norm_ = weights.take("encoder.final_layer_norm.weight", {d_model});
    weights.finish();
}

// [1, H, L, L] float32, the same for all blocks.
at::Tensor T5Encoder::position_bias(std::int64_t length) const {
    const at::Tensor position = at::arange(length, at::kLong);
    const at::Tensor relative = position.unsqueeze(0) - position.unsqueeze(1);  // [query, key]
    const at::Tensor bucket =
        relative_position_bucket(relative, config_.relative_attention_num_buckets,
                                 config_.relative_attention_max_distance)
            .to(relative_attention_bias_.device());
    return at::embedding(relative_attention_bias_, bucket)
        .permute({2, 0, 1})
        .unsqueeze(0)
        .to(at::kFloat);
}

// x is the float32 residual stream; the result is rounded once, to the weights' dtype.
at::Tensor T5Encoder::norm(const at::Tensor& x, const at::Tensor& weight) const {
    const at::Tensor mean_square = x.square().mean(-1, true);
    return (x * at::rsqrt(mean_square + config_.layer_norm_epsilon) * weight)
        .to(weight.scalar_type());
}

// x [n, L, d_model] after its norm. The scores are not divided by sqrt(d_kv): T5 put that into its
// initialisation.
at::Tensor T5Encoder::attention(const Block& block, const at::Tensor& x,
                                const at::Tensor& bias) const {
    const auto heads = [&](const at::Tensor& weight) {  // [n, H, L, d_kv]
        return at::linear(x, weight)
            .view({x.size(0), x.size(1), config_.num_heads, config_.d_kv})
            .transpose(1, 2)
            .to(at::kFloat);
    };
    at::Tensor scores = at::matmul(heads(block.q), heads(block.k).transpose(-2, -1));
    scores.add_(bias);  // [n, H, L, L]
    const at::Tensor mixed =
        at::matmul(at::softmax(scores, -1), heads(block.v)).to(x.scalar_type());
    return at::linear(mixed.transpose(1, 2).flatten(2), block.o);
}

at::Tensor T5Encoder::encode(const at::Tensor& input_ids, const at::Tensor& bias) const {
    at::Tensor x = at::embedding(shared_, input_ids).to(at::kFloat);  // [n, L, d_model]
    for (const Block& block : blocks_) {
        x = x + attention(block, norm(x, block.attention_norm), bias);
        const at::Tensor y = norm(x, block.feed_forward_norm);
        const at::Tensor gate = at::gelu(at::linear(y, block.wi_0), "tanh");
        x = x + at::linear(gate * at::linear(y, block.wi_1), block.wo);
    }
    return norm(x, final_layer_norm_);
}

at::Tensor T5Encoder::forward(const at::Tensor& input_ids) const {
    TORCH_CHECK(
        input_ids.dim() == 2 && input_ids.scalar_type() == at::kLong && input_ids.size(1) > 0,
        "input_ids must be [n, L] int64, got ", shape_text(input_ids.sizes()), " ",
        dtype_text(input_ids.scalar_type()));
    const c10::AutoGradMode no_grad(false);
    const std::int64_t n = input_ids.size(0);
    const std::int64_t length = input_ids.size(1);
    at::Tensor result = at::empty({n, length, config_.d_model}, shared_.options());
    if (n == 0) {
        return result;
    }
    const auto largest = input_ids.max().item<std::int64_t>();
    const auto smallest = input_ids.min().item<std::int64_t>();
    if (smallest < 0 || largest >= config_.vocab_size) {
        throw RunError("text_encoder: token id " +
                       std::to_string(smallest < 0 ? smallest : largest) +
                       " is not in the vocabulary of " + std::to_string(config_.vocab_size) +
                       " (vocab_size of its config.json); tokenizer and text encoder do not belong "
                       "together");
    }
    const at::Tensor ids = input_ids.to(shared_.device());
    const at::Tensor bias = position_bias(length);
    for (std::int64_t i = 0; i < n; i += kPromptsPerPass) {
        const std::int64_t count = std::min(kPromptsPerPass, n - i);
        result.narrow(0, i, count).copy_(encode(ids.narrow(0, i, count), bias));
    }
    return result;
}

}  // namespace matrix::models
