#include "matrix/nn/attention_edit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "matrix/nn/joint_attention.h"
#include "support/tensors.h"

// D width, S joint rows, H heads, d head_dim.

namespace matrix::nn {
namespace {

constexpr std::int64_t kWidth = 12, kHeads = 3, kText = 2;
const TokenLayout kLayout = {TokenLayout::Attention::kJoint, kText, 2, 1, 3};

at::Tensor wave(at::IntArrayRef shape, double phase) {
    return (at::arange(c10::multiply_integers(shape), at::kFloat) * 1.7 + phase).sin().view(shape);
}

JointAttention layer() {
    JointAttention attention;
    attention.heads = kHeads;
    double phase = 0;
    for (Linear* linear : {&attention.to_q, &attention.to_k, &attention.to_v, &attention.to_out}) {
        linear->weight = wave({kWidth, kWidth}, phase += 0.3);
        linear->bias = wave({kWidth}, phase += 0.3);
    }
    for (LayerNorm* norm : {&attention.norm_q, &attention.norm_k}) {
        norm->weight = wave({kWidth / kHeads}, phase += 0.3);
        norm->bias = wave({kWidth / kHeads}, phase += 0.3);
        norm->eps = 1e-6;
    }
    return attention;
}

at::Tensor run(const AttentionEdit& edit, const Tap& tap = {}) {
    const at::NoGradGuard no_grad;
    RecomputeMemo memo;
    const auto output = layer()(wave({2, kLayout.num_queries(), kWidth}, 0.1), {},
                                JointRows::of(kLayout, nullptr), tap, edit, memo);
    return tap ? output.tap : output.rows;
}

TEST(AttentionEdit, ThatGivesTheOutputBackChangesNoBit) {
    test::expect_equal(run([](const AttentionEditInput& in) { return in.output; }), run({}),
                       "rows");
}

TEST(AttentionEdit, StandsBeforeTheOutputProjection) {
    const at::Tensor rows =
        run([](const AttentionEditInput& in) { return at::zeros_like(in.output); });
    test::expect_close(rows, layer().to_out.bias.expand_as(rows), 1e-6, "the bias alone");
}

TEST(AttentionEdit, SeesWhatAttentionIsMadeOf) {
    const AttentionEdit again = [](const AttentionEditInput& in) {
        EXPECT_EQ(in.layout.video_begin(), kText);
        const at::Tensor logits = at::matmul(in.query, in.key.mT()) / 2.0;  // d = 4
        return at::matmul((logits - in.log_sum_exp.unsqueeze(-1)).exp(), in.value);
    };
    test::expect_close(run(again), run({}), 1e-5, "rows");
}

TEST(AttentionEdit, IsNotSeenByATap) {
    const Tap tap = [](const TapInput& in) { return in.log_sum_exp + in.query.sum(-1); };
    const AttentionEdit zeros = [](const AttentionEditInput& in) {
        return at::zeros_like(in.output);
    };
    test::expect_equal(run(zeros, tap), run({}, tap), "tap");
}

}  // namespace
}  // namespace matrix::nn
