#include "models/cogvideox/block.h"

#include <optional>
#include <utility>

#include "models/cogvideox/parts.h"

namespace matrix::models {
namespace {

constexpr double kQkNormEps = 1e-6;  // fixed in the reference's block, not in its config

nn::AdaptiveNorm take_adaptive_norm(const CogVideoXConfig& config, const std::string& prefix,
                                    tensor_io::WeightSource& weights) {
    const std::int64_t dim = config.width();
    return {
        take_linear(weights, prefix + ".linear", 6 * dim, config.time_embed_dim),
        take_norm(weights, prefix + ".norm", dim, config.norm_eps, config.norm_elementwise_affine)};
}

}  // namespace

CogVideoXBlock::CogVideoXBlock(const CogVideoXConfig& config, const std::string& prefix,
                               tensor_io::WeightSource& weights) {
    const std::int64_t dim = config.width(), head_dim = config.attention_head_dim;
    const std::string attn = prefix + ".attn1";
    norm1 = take_adaptive_norm(config, prefix + ".norm1", weights);
    attn1.heads = config.num_attention_heads;
    attn1.norm_q = take_norm(weights, attn + ".norm_q", head_dim, kQkNormEps);
    attn1.norm_k = take_norm(weights, attn + ".norm_k", head_dim, kQkNormEps);
    attn1.to_q = take_linear(weights, attn + ".to_q", dim, dim, config.attention_bias);
    attn1.to_k = take_linear(weights, attn + ".to_k", dim, dim, config.attention_bias);
    attn1.to_v = take_linear(weights, attn + ".to_v", dim, dim, config.attention_bias);
    attn1.to_out = take_linear(weights, attn + ".to_out.0", dim, dim);
    norm2 = take_adaptive_norm(config, prefix + ".norm2", weights);
    ff.in = take_linear(weights, prefix + ".ff.net.0.proj", 4 * dim, dim);
    ff.out = take_linear(weights, prefix + ".ff.net.2", dim, 4 * dim);
}

std::vector<at::Tensor> CogVideoXBlock::run(const at::Tensor& x, const BlockContext& context,
                                            const nn::Tap& tap, const nn::AttentionEdit& edit,
                                            nn::RecomputeMemo& memo) const {
    using Memo = nn::RecomputeMemo;
    const std::int64_t text_rows = context.rows.text_rows;

    const auto modulation = [&](const nn::AdaptiveNorm& norm, std::optional<at::Tensor>& slot) {
        return memo.once(slot, [&] { return norm.modulation(context.silu_embedding); });
    };

    nn::Modulated before_attention = norm1(x, modulation(norm1, memo.modulation_1), text_rows);
    nn::JointAttention::Output attended =
        attn1(std::move(before_attention.rows), context.rotation, context.rows, tap, edit, memo);
    const at::Tensor middle = nn::add_gated(x, std::exchange(attended.rows, {}), text_rows,
                                            before_attention, Memo::take(memo.middle));
    if (memo.fills(nn::Keep::kRows)) {
        memo.middle = middle;
    }

    nn::Modulated before_ff = norm2(middle, modulation(norm2, memo.modulation_2), text_rows);
    const at::Tensor fed = ff(std::exchange(before_ff.rows, {}), memo);
    const at::Tensor out = nn::add_gated(middle, fed, text_rows, before_ff, memo.unread(x));
    return tap ? std::vector<at::Tensor>{out, attended.tap} : std::vector<at::Tensor>{out};
}

std::vector<CogVideoXBlock::Slot> CogVideoXBlock::weight_slots() {
    std::vector<Slot> slots;
    for (nn::Linear* linear : {&norm1.linear, &attn1.to_q, &attn1.to_k, &attn1.to_v, &attn1.to_out,
                               &norm2.linear, &ff.in, &ff.out}) {
        slots.insert(slots.end(),
                     {{&linear->weight, &linear->weight_scale}, {&linear->bias, nullptr}});
    }
    for (nn::LayerNorm* norm : {&norm1.norm, &attn1.norm_q, &attn1.norm_k, &norm2.norm}) {
        slots.insert(slots.end(), {{&norm->weight, nullptr}, {&norm->bias, nullptr}});
    }
    std::erase_if(slots, [](const Slot& slot) { return !slot.tensor->defined(); });
    return slots;
}

std::vector<at::Tensor> CogVideoXBlock::weights() const {
    CogVideoXBlock same = *this;  // whose slots may be written to
    std::vector<at::Tensor> tensors;
    for (const Slot& slot : same.weight_slots()) {
        tensors.push_back(*slot.tensor);
    }
    return tensors;
}

CogVideoXBlock CogVideoXBlock::with_weights(const std::vector<at::Tensor>& weights,
                                            const std::vector<at::Tensor>& scales) const {
    CogVideoXBlock block = *this;
    const std::vector<Slot> slots = block.weight_slots();
    TORCH_CHECK(slots.size() == weights.size() && (scales.empty() || scales.size() == slots.size()),
                "a block of ", slots.size(), " tensors got ", weights.size(), " and ",
                scales.size(), " scales");
    for (std::size_t i = 0; i < slots.size(); ++i) {
        *slots[i].tensor = weights[i];
        if (slots[i].scale != nullptr && !scales.empty()) {
            *slots[i].scale = scales[i];
        }
    }
    return block;
}

std::vector<at::Tensor> CogVideoXBlock::trainable() const {
    std::vector<at::Tensor> tensors;
    for (const nn::Linear* linear : {&attn1.to_q, &attn1.to_k, &attn1.to_v, &attn1.to_out}) {
        linear->collect_trainable(tensors);
    }
    return tensors;
}

}  // namespace matrix::models
