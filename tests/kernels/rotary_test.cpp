#include "matrix/kernels/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>

#include "gradients.h"

// B batch, S rows of which the first are text, H heads, d head_dim.

namespace matrix::kernels {
namespace {

constexpr std::int64_t kRows = 6, kHeads = 3;
constexpr double kEps = 1e-4;

class NormRotate : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t>> {
protected:
    NormRotate() { at::manual_seed(4); }

    /// The definition in the dtype of x, pair by pair: (a, b) -> (a cos - b sin, b cos + a sin). As
    /// the reference does, it rotates in float32 where x is narrower.
    [[nodiscard]] at::Tensor plain(const at::Tensor& x) const {
        const auto dtype = x.scalar_type();
        const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
        const at::Tensor y =
            at::layer_norm(x, {head_dim_}, weight_.to(dtype), bias_.to(dtype), kEps);
        const at::Tensor video = y.narrow(1, text_rows_, kRows - text_rows_).to(wide);
        const at::Tensor even = video.slice(3, 0, c10::nullopt, 2),
                         odd = video.slice(3, 1, c10::nullopt, 2);
        const at::Tensor angle = angles_.to(wide).unsqueeze(1);
        const at::Tensor turned = at::stack(
            {even * angle.cos() - odd * angle.sin(), odd * angle.cos() + even * angle.sin()}, -1);
        return at::cat({y.narrow(1, 0, text_rows_), turned.flatten(3).to(dtype)}, 1);
    }
    [[nodiscard]] at::Tensor run(const at::Tensor& x) const {
        return norm_rotate(x, weight_.to(x.scalar_type()), bias_.to(x.scalar_type()), kEps,
                           rotation_, text_rows_);
    }
    [[nodiscard]] at::Tensor random() const { return at::randn({2, kRows, kHeads, head_dim_}); }

    std::int64_t text_rows_ = std::get<0>(GetParam()), head_dim_ = std::get<1>(GetParam());
    at::Tensor x_ = random(), cotangent_ = random();
    at::Tensor weight_ = at::randn({head_dim_}), bias_ = at::randn({head_dim_});
    at::Tensor angles_ = at::randn({kRows - text_rows_, head_dim_ / 2}) * 3;
    at::Tensor rotation_ = at::complex(angles_.cos(), angles_.sin()).unsqueeze(1);
};

TEST_P(NormRotate, EqualsPlainOperations) {
    test::expect_same_function([&](const auto& x) { return run(x[0]); },
                               [&](const auto& x) { return plain(x[0]); }, {x_}, cotangent_, 1e-5);
}

TEST_P(NormRotate, WithoutRotationIsTheNorm) {
    test::expect_same_function(
        [&](const auto& x) { return norm_rotate(x[0], weight_, bias_, kEps, {}, text_rows_); },
        [&](const auto& x) {
            return at::layer_norm(x[0], {head_dim_}, weight_.to(at::kDouble), bias_.to(at::kDouble),
                                  kEps);
        },
        {x_}, cotangent_, 1e-5);
}

// Heads of a buffer that holds more than q, and a gradient in attention's layout.
TEST_P(NormRotate, TakesViews) {
    const std::int64_t width = kHeads * head_dim_;
    const at::Tensor packed = at::randn({2, kRows, 3 * width});
    const auto heads = [&](const at::Tensor& t) {
        return t.narrow(2, width, width).unflatten(2, {kHeads, head_dim_});
    };
    const at::Tensor cotangent = cotangent_.transpose(1, 2).contiguous();
    test::expect_same_function([&](const auto& x) { return run(heads(x[0])).transpose(1, 2); },
                               [&](const auto& x) { return plain(heads(x[0])).transpose(1, 2); },
                               {packed}, cotangent, 1e-5);
    // Heads that begin anywhere.
    const auto shifted = [&](const at::Tensor& t) {
        return t.narrow(2, 1, width).unflatten(2, {kHeads, head_dim_});
    };
    test::expect_same_function([&](const auto& x) { return run(shifted(x[0])); },
                               [&](const auto& x) { return plain(shifted(x[0])); },
                               {at::randn({2, kRows, width + 1})}, cotangent_, 1e-5);
    // Channels apart from each other.
    const auto turned = [](const at::Tensor& t) { return t.transpose(1, 3); };
    test::expect_same_function([&](const auto& x) { return turned(run(turned(x[0]))); },
                               [&](const auto& x) { return turned(plain(turned(x[0]))); },
                               {turned(x_).contiguous()}, turned(cotangent_).contiguous(), 1e-5);
}

TEST_P(NormRotate, Bfloat16IsNoFartherThanPlainOperations) {
    test::expect_no_farther_in_bfloat16([&](const auto& x) { return run(x[0]); },
                                        [&](const auto& x) { return plain(x[0]); }, {x_},
                                        cotangent_);
}

TEST_P(NormRotate, LeavesItsInputsAlone) {
    const at::Tensor before = x_.clone(), rotation = rotation_.clone(),
                     cotangent = cotangent_.clone();
    (void)test::differentiate([&](const auto& x) { return run(x[0]); }, {x_}, cotangent_);
    EXPECT_TRUE(at::equal(x_, before));
    EXPECT_TRUE(at::equal(at::view_as_real(rotation_), at::view_as_real(rotation)));
    EXPECT_TRUE(at::equal(cotangent_, cotangent));
}

TEST_P(NormRotate, ChecksItsParameters) {
    EXPECT_THROW((void)norm_rotate(x_, weight_, bias_, kEps, rotation_, text_rows_ + 1),
                 c10::Error);
    EXPECT_THROW((void)norm_rotate(x_, weight_, bias_, kEps, at::real(rotation_), text_rows_),
                 c10::Error);
    EXPECT_THROW((void)norm_rotate(x_, weight_.narrow(0, 0, 2), bias_, kEps, {}, text_rows_),
                 c10::Error);
}

// 64 is every published model's; the others have no power of two of channels or pairs.
INSTANTIATE_TEST_SUITE_P(TextRowsAndHeadDim, NormRotate,
                         testing::Combine(testing::Values(0, 2, kRows),
                                          testing::Values(6, 38, 64)));

TEST(NormRotateThreads, HaveTheSameBits) {
    at::manual_seed(5);
    const at::Tensor angles = at::randn({401, 19}), weight = at::randn({38}),
                     bias = at::randn({38});
    const at::Tensor rotation = at::complex(angles.cos(), angles.sin()).unsqueeze(1);
    test::expect_same_on_two_threads(
        [&](const auto& x) { return norm_rotate(x[0], weight, bias, kEps, rotation, 100); },
        {at::randn({2, 501, kHeads, 38})}, at::randn({2, 501, kHeads, 38}));
}

TEST(NormRotateOddChannels, AreTheNormAloneAndRefusedWithARotation) {
    at::manual_seed(6);
    const at::Tensor x = at::randn({1, 3, 2, 7}), weight = at::randn({7}), bias = at::randn({7});
    test::expect_close(
        norm_rotate(x, weight, bias, kEps, {}, 0),
        at::layer_norm(x.to(at::kDouble), {7}, weight.to(at::kDouble), bias.to(at::kDouble), kEps),
        1e-5, "output");
    const at::Tensor rotation = at::complex(at::ones({3, 1, 3}), at::zeros({3, 1, 3}));
    EXPECT_THROW((void)norm_rotate(x, weight, bias, kEps, rotation, 0), c10::Error);
}

}  // namespace
}  // namespace matrix::kernels
