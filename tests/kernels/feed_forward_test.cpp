#include "matrix/kernels/feed_forward.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gradients.h"

namespace matrix::kernels {
namespace {

LinearMap map(const at::Tensor& weight, const at::Tensor& bias) {
    return {weight, bias, {}, {}, 1.0, {}};
}

class FeedForward : public testing::TestWithParam<std::int64_t> {
protected:
    FeedForward() { at::manual_seed(2); }

    [[nodiscard]] at::Tensor run(const at::Tensor& x, FeedForwardMode mode) const {
        const auto as = [&](const at::Tensor& t) { return t.to(x.scalar_type()); };
        return feed_forward(x, map(as(w1_), as(b1_)), map(as(w2_), as(b2_)), mode);
    }
    /// The definition, in the dtype of x.
    [[nodiscard]] at::Tensor plain(const at::Tensor& x) const {
        const auto as = [&](const at::Tensor& t) { return t.to(x.scalar_type()); };
        const at::Tensor hidden = at::gelu(at::linear(x, as(w1_), as(b1_)), "tanh");
        return at::linear(hidden, as(w2_), as(b2_));
    }

    at::Tensor w1_ = at::randn({12, 6}), b1_ = at::randn({12}), w2_ = at::randn({6, 12}),
               b2_ = at::randn({6});
    at::Tensor x_ = at::randn({2, GetParam(), 6}), cotangent_ = at::randn({2, GetParam(), 6});
};

TEST_P(FeedForward, EqualsPlainOperations) {
    for (const auto mode : {FeedForwardMode::kKeepHidden, FeedForwardMode::kRecompute}) {
        test::expect_same_function([&](const auto& x) { return run(x[0], mode); },
                                   [&](const auto& x) { return plain(x[0]); }, {x_}, cotangent_,
                                   1e-5);
    }
}

TEST_P(FeedForward, ModesHaveTheSameBits) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
        const auto of = [&](FeedForwardMode mode) {
            return test::differentiate([&](const auto& x) { return run(x[0], mode); },
                                       {x_.to(dtype)}, cotangent_);
        };
        const auto kept = of(FeedForwardMode::kKeepHidden);
        const auto recomputed = of(FeedForwardMode::kRecompute);
        test::expect_equal(recomputed.output, kept.output, "output");
        test::expect_equal(recomputed.grads[0], kept.grads[0], "gradient");
        test::expect_equal(of(FeedForwardMode::kGraphOnly).grads[0], kept.grads[0], "graph only");
    }
}

TEST_P(FeedForward, Bfloat16IsNoFartherThanPlainOperations) {
    test::expect_no_farther_in_bfloat16(
        [&](const auto& x) { return run(x[0], FeedForwardMode::kRecompute); },
        [&](const auto& x) { return plain(x[0]); }, {x_}, cotangent_);
}

TEST_P(FeedForward, HasTheSameBitsOnTwoThreads) {
    test::expect_same_on_two_threads(
        [&](const auto& x) { return run(x[0], FeedForwardMode::kRecompute); }, {x_}, cotangent_);
}

TEST_P(FeedForward, TakesViews) {
    const at::Tensor cotangent = cotangent_.transpose(0, 1).contiguous();
    const auto turned = [](const at::Tensor& t) { return t.transpose(0, 1); };
    test::expect_same_function(
        [&](const auto& x) {
            return turned(run(x[0].narrow(2, 1, 6), FeedForwardMode::kKeepHidden));
        },
        [&](const auto& x) { return turned(plain(x[0].narrow(2, 1, 6))); },
        {at::randn({2, GetParam(), 8})}, cotangent, 1e-5);
}

// The second is more than one chunk of rows.
INSTANTIATE_TEST_SUITE_P(Rows, FeedForward, testing::Values(5, 3000));

/// GELU alone, as the feed-forward of one channel.
at::Tensor gelu_alone(const at::Tensor& x) {
    const at::Tensor one = at::ones({1, 1}), zero = at::zeros({1});
    return feed_forward(x.view({1, -1, 1}), map(one, zero), map(one, zero),
                        FeedForwardMode::kKeepHidden)
        .view(-1);
}

// Value by value: the far left, where 1 + tanh cancels, counts like the rest.
TEST(Gelu, IsRightToTheLastBits) {
    const at::Tensor x = at::linspace(-12, 12, 40001);
    const at::Tensor cotangent = at::ones({40001});
    const auto actual =
        test::differentiate([](const auto& v) { return gelu_alone(v[0]); }, {x}, cotangent);
    const auto expected = test::differentiate([](const auto& v) { return at::gelu(v[0], "tanh"); },
                                              {x.to(at::kDouble)}, cotangent.to(at::kDouble));
    const at::Tensor error =
        (actual.output.to(at::kDouble) - expected.output).abs() / (expected.output.abs() + 1e-9);
    // The exponential makes a relative error of what rounding its argument, -18 at -5, leaves.
    EXPECT_LE(error.max().item<double>(), 4e-6);
    EXPECT_LE(error.index({x.abs() <= 2}).max().item<double>(), 1e-6);
    EXPECT_LE(test::relative_error(actual.output, expected.output), 2e-7);
    EXPECT_LE(test::relative_error(actual.grads[0], expected.grads[0]), 1e-6);
}

TEST(Gelu, StaysFiniteFarOutAndKeepsWhatIsNoNumber) {
    const at::Tensor x = at::tensor({-1e4F, -100.0F, 100.0F, 1e4F, NAN});
    const auto actual =
        test::differentiate([](const auto& v) { return gelu_alone(v[0]); }, {x}, at::ones({5}));
    test::expect_close(actual.output.narrow(0, 0, 4), at::tensor({0.0, 0.0, 100.0, 1e4}), 1e-7,
                       "output");
    test::expect_close(actual.grads[0].narrow(0, 0, 4), at::tensor({0.0, 0.0, 1.0, 1.0}), 1e-7,
                       "gradient");
    EXPECT_TRUE(std::isnan(actual.output[4].item<float>()));
    EXPECT_TRUE(std::isnan(actual.grads[0][4].item<float>()));
}

TEST(FeedForwardShapes, AreChecked) {
    const at::Tensor x = at::randn({1, 2, 6}), w = at::randn({8, 5});
    EXPECT_THROW((void)feed_forward(x, map(w, {}), map(w, {}), FeedForwardMode::kRecompute),
                 c10::Error);
    const at::Tensor w1 = at::randn({8, 6}), w2 = at::randn({6, 8}), b2 = at::randn({6});
    for (const at::Tensor& b1 : {at::randn({7}), at::randn({8}).to(at::kDouble)}) {
        EXPECT_THROW((void)feed_forward(x, map(w1, b1), map(w2, b2), FeedForwardMode::kRecompute),
                     c10::Error);
    }
}

}  // namespace
}  // namespace matrix::kernels
