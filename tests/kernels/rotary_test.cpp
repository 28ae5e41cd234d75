#include "matrix/kernels/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gradients.h"

// B batch, S rows of which the first are text, H heads, d head_dim.

namespace matrix::kernels {
namespace {

constexpr std::int64_t kRows = 6, kText = 2, kHeadDim = 8;
constexpr double kEps = 1e-4;

class NormRotate : public testing::Test {
protected:
    NormRotate() { at::manual_seed(4); }

    /// The definition, pair by pair: (a, b) -> (a cos - b sin, b cos + a sin).
    [[nodiscard]] at::Tensor plain(const at::Tensor& x) const {
        const at::Tensor y =
            at::layer_norm(x, {kHeadDim}, weight_.to(at::kDouble), bias_.to(at::kDouble), kEps);
        const at::Tensor video = y.narrow(1, kText, kRows - kText);
        const at::Tensor even = video.slice(3, 0, c10::nullopt, 2),
                         odd = video.slice(3, 1, c10::nullopt, 2);
        const at::Tensor angle = angles_.to(at::kDouble).view({kRows - kText, 1, kHeadDim / 2});
        const at::Tensor turned = at::stack(
            {even * angle.cos() - odd * angle.sin(), odd * angle.cos() + even * angle.sin()}, -1);
        return at::cat({y.narrow(1, 0, kText), turned.flatten(3)}, 1);
    }
    [[nodiscard]] at::Tensor run(const at::Tensor& x) const {
        return norm_rotate(x, weight_.to(x.scalar_type()), bias_.to(x.scalar_type()), kEps,
                           rotation_, kText);
    }

    at::Tensor x_ = at::randn({2, kRows, 3, kHeadDim}),
               cotangent_ = at::randn({2, kRows, 3, kHeadDim});
    at::Tensor weight_ = at::randn({kHeadDim}), bias_ = at::randn({kHeadDim});
    at::Tensor angles_ = at::randn({kRows - kText, kHeadDim / 2}) * 3;
    at::Tensor rotation_ = at::complex(angles_.cos(), angles_.sin()).unsqueeze(1);
};

TEST_F(NormRotate, EqualsPlainOperations) {
    test::expect_same_function([&](const auto& x) { return run(x[0]); },
                               [&](const auto& x) { return plain(x[0]); }, {x_}, cotangent_, 1e-5);
}

TEST_F(NormRotate, WithoutRotationIsTheNorm) {
    test::expect_same_function(
        [&](const auto& x) { return norm_rotate(x[0], weight_, bias_, kEps, {}, kText); },
        [&](const auto& x) {
            return at::layer_norm(x[0], {kHeadDim}, weight_.to(at::kDouble), bias_.to(at::kDouble),
                                  kEps);
        },
        {x_}, cotangent_, 1e-5);
}

// The reference's order in half precision: the norm rounds, the rotation runs in float32 and rounds
// once.
TEST_F(NormRotate, RotatesInFloat32AndRoundsOnce) {
    const at::Tensor x = x_.to(at::kBFloat16);
    const at::Tensor normed =
        at::layer_norm(x, {kHeadDim}, weight_.to(at::kBFloat16), bias_.to(at::kBFloat16), kEps)
            .to(at::kFloat);
    const at::Tensor video = normed.narrow(1, kText, kRows - kText);
    const at::Tensor even = video.slice(3, 0, c10::nullopt, 2),
                     odd = video.slice(3, 1, c10::nullopt, 2);
    const at::Tensor cosine = angles_.cos().unsqueeze(1), sine = angles_.sin().unsqueeze(1);
    const at::Tensor turned =
        at::stack({even * cosine - odd * sine, odd * cosine + even * sine}, -1).flatten(3);
    const at::Tensor expected = at::cat({normed.narrow(1, 0, kText), turned}, 1);
    const at::Tensor actual = run(x);
    EXPECT_EQ(actual.scalar_type(), at::kBFloat16);
    // Half a unit in the last of eight bits.
    EXPECT_LE(((actual.to(at::kFloat) - expected).abs() / expected.abs().clamp_min(1e-3))
                  .max()
                  .item<float>(),
              1.0 / 256);
}

TEST_F(NormRotate, LeavesItsInputsAlone) {
    const at::Tensor before = x_.clone(), rotation = rotation_.clone(),
                     cotangent = cotangent_.clone();
    (void)test::differentiate([&](const auto& x) { return run(x[0]); }, {x_}, cotangent_);
    EXPECT_TRUE(at::equal(x_, before));
    EXPECT_TRUE(at::equal(at::view_as_real(rotation_), at::view_as_real(rotation)));
    EXPECT_TRUE(at::equal(cotangent_, cotangent));
}

TEST_F(NormRotate, ChecksTheRotation) {
    EXPECT_THROW((void)norm_rotate(x_, weight_, bias_, kEps, rotation_, kText + 1), c10::Error);
}

}  // namespace
}  // namespace matrix::kernels
