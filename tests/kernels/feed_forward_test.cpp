#include "matrix/kernels/feed_forward.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gradients.h"

namespace matrix::kernels {
namespace {

class FeedForward : public testing::TestWithParam<std::int64_t> {
protected:
    FeedForward() { at::manual_seed(2); }

    [[nodiscard]] at::Tensor run(const at::Tensor& x, FeedForwardMode mode) const {
        return feed_forward(x, w1_, b1_, w2_, b2_, mode);
    }
    [[nodiscard]] at::Tensor plain(const at::Tensor& x) const {
        const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
        const at::Tensor hidden = at::gelu(at::linear(x, wide(w1_), wide(b1_)), "tanh");
        return at::linear(hidden, wide(w2_), wide(b2_));
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
    const auto of = [&](FeedForwardMode mode) {
        return test::differentiate([&](const auto& x) { return run(x[0], mode); }, {x_},
                                   cotangent_);
    };
    const auto kept = of(FeedForwardMode::kKeepHidden);
    const auto recomputed = of(FeedForwardMode::kRecompute);
    test::expect_equal(recomputed.output, kept.output, "output");
    test::expect_equal(recomputed.grads[0], kept.grads[0], "gradient");
    test::expect_equal(of(FeedForwardMode::kGraphOnly).grads[0], kept.grads[0], "graph only");
}

// The second is more than one chunk of rows.
INSTANTIATE_TEST_SUITE_P(Rows, FeedForward, testing::Values(5, 3000));

TEST(FeedForwardShapes, AreChecked) {
    const at::Tensor x = at::randn({1, 2, 6}), w = at::randn({8, 5});
    EXPECT_THROW((void)feed_forward(x, w, {}, w, {}, FeedForwardMode::kRecompute), c10::Error);
}

}  // namespace
}  // namespace matrix::kernels
