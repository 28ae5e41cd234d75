#include "matrix/kernels/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gradients.h"

// B batch, H heads, S rows, d head_dim.

namespace matrix::kernels {
namespace {

constexpr double kScale = 0.3;

at::Tensor plain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return at::matmul(at::softmax(at::matmul(q, k.transpose(-1, -2)) * kScale, -1), v);
}

class Attention : public testing::Test {
protected:
    Attention() { at::manual_seed(1); }

    at::Tensor q_ = at::randn({2, 3, 19, 8}), k_ = at::randn({2, 3, 19, 8}),
               v_ = at::randn({2, 3, 19, 8}), cotangent_ = at::randn({2, 3, 19, 8});
};

TEST_F(Attention, EqualsPlainOperations) {
    test::expect_same_function(
        [](const auto& x) { return attention(x[0], x[1], x[2], kScale).output; },
        [](const auto& x) { return plain(x[0], x[1], x[2]); }, {q_, k_, v_}, cotangent_, 1e-5);
}

// The layout that a block gives: views of [B, S, H, d].
TEST_F(Attention, TakesTransposedViews) {
    const auto split = [](const at::Tensor& x) {
        return x.transpose(1, 2).contiguous().transpose(1, 2);
    };
    test::expect_same_function(
        [&](const auto& x) {
            return attention(split(x[0]), split(x[1]), split(x[2]), kScale).output;
        },
        [](const auto& x) { return plain(x[0], x[1], x[2]); }, {q_, k_, v_}, cotangent_, 1e-5);
}

TEST_F(Attention, LogSumExpIsNaturalAndOfScaledProducts) {
    const AttentionResult result = attention(q_, k_, v_, kScale);
    test::expect_close(result.log_sum_exp,
                       at::logsumexp(at::matmul(q_, k_.transpose(-1, -2)) * kScale, -1), 1e-5,
                       "log_sum_exp");
    EXPECT_EQ(result.log_sum_exp.scalar_type(), at::kFloat);
    EXPECT_FALSE(result.log_sum_exp.requires_grad());
}

TEST_F(Attention, Bfloat16KeepsItsDtypeAndFloatLogSumExp) {
    const AttentionResult result =
        attention(q_.to(at::kBFloat16), k_.to(at::kBFloat16), v_.to(at::kBFloat16), kScale);
    EXPECT_EQ(result.output.scalar_type(), at::kBFloat16);
    EXPECT_EQ(result.log_sum_exp.scalar_type(), at::kFloat);
    // Eight bits of mantissa.
    test::expect_close(result.output, plain(q_, k_, v_), 2e-2, "output");
}

// The second run of a block: the kept result is used as it is, and gradients have the same bits.
TEST_F(Attention, KeptResultIsNotComputedAgain) {
    AttentionResult kept;
    const auto first = test::differentiate(
        [&](const auto& x) {
            kept = attention(x[0].detach(), x[1].detach(), x[2].detach(), kScale);
            return attention(x[0], x[1], x[2], kScale).output;
        },
        {q_, k_, v_}, cotangent_);
    const auto second = test::differentiate(
        [&](const auto& x) { return attention(x[0], x[1], x[2], kScale, kept).output; },
        {q_, k_, v_}, cotangent_);
    test::expect_equal(second.output, first.output, "output");
    for (std::size_t i = 0; i < 3; ++i) {
        test::expect_equal(second.grads[i], first.grads[i], "gradient " + std::to_string(i));
    }
    kept.output = at::full_like(kept.output, 7);
    const at::Tensor output = attention(q_, k_, v_, kScale, kept).output;
    test::expect_equal(output, kept.output, "kept output");
}

TEST_F(Attention, RefusesUnequalShapes) {
    EXPECT_THROW((void)attention(q_, k_.narrow(2, 0, 5), v_, kScale), c10::Error);
}

}  // namespace
}  // namespace matrix::kernels
