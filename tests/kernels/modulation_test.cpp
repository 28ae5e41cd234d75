#include "matrix/kernels/modulation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gradients.h"

// B batch, S rows of which the first are text, D width.

namespace matrix::kernels {
namespace {

constexpr std::int64_t kBatch = 2, kRows = 7, kWidth = 6;
constexpr double kEps = 1e-3;

class Modulation : public testing::TestWithParam<std::int64_t> {
protected:
    Modulation() { at::manual_seed(3); }

    [[nodiscard]] static RowValues random() {
        return {at::randn({kBatch, 1, kWidth}), at::randn({kBatch, 1, kWidth})};
    }
    /// [B, S, D] float64: every row's own value.
    [[nodiscard]] static at::Tensor spread(const RowValues& values, std::int64_t text_rows) {
        return at::cat({values.text.expand({-1, text_rows, -1}),
                        values.video.expand({-1, kRows - text_rows, -1})},
                       1)
            .to(at::kDouble);
    }

    std::int64_t text_rows_ = GetParam();
    at::Tensor x_ = at::randn({kBatch, kRows, kWidth}), y_ = at::randn({kBatch, kRows, kWidth});
    at::Tensor cotangent_ = at::randn({kBatch, kRows, kWidth});
    at::Tensor weight_ = at::randn({kWidth}), bias_ = at::randn({kWidth});
    RowValues shift_ = random(), scale_ = random();
};

TEST_P(Modulation, LayerNormModulateEqualsPlainOperations) {
    for (const bool affine : {true, false}) {
        const at::Tensor weight = affine ? weight_ : at::Tensor(),
                         bias = affine ? bias_ : at::Tensor();
        const auto plain = [&](const auto& x) {
            const at::Tensor y = affine ? at::layer_norm(x[0], {kWidth}, weight_.to(at::kDouble),
                                                         bias_.to(at::kDouble), kEps)
                                        : at::layer_norm(x[0], {kWidth}, {}, {}, kEps);
            return y * (1 + spread(scale_, text_rows_)) + spread(shift_, text_rows_);
        };
        test::expect_same_function(
            [&](const auto& x) {
                return layer_norm_modulate(x[0], weight, bias, kEps, text_rows_, shift_, scale_);
            },
            plain, {x_}, cotangent_, 1e-5);
    }
}

TEST_P(Modulation, GatedResidualEqualsPlainOperations) {
    test::expect_same_function(
        [&](const auto& x) { return gated_residual(x[0], x[1], text_rows_, scale_); },
        [&](const auto& x) { return x[0] + spread(scale_, text_rows_) * x[1]; }, {x_, y_},
        cotangent_, 1e-6);
}

// Each operation rounds by itself: LayerNorm, 1 + scale, product, sum.
TEST_P(Modulation, RoundsAfterEachOperationInBfloat16) {
    const auto half = [](const RowValues& v) {
        return RowValues{v.text.to(at::kBFloat16), v.video.to(at::kBFloat16)};
    };
    const RowValues shift = half(shift_), scale = half(scale_);
    const at::Tensor x = x_.to(at::kBFloat16), w = weight_.to(at::kBFloat16),
                     b = bias_.to(at::kBFloat16);
    const auto rows = [&](const RowValues& v) { return spread(v, text_rows_).to(at::kBFloat16); };
    const at::Tensor normed = at::layer_norm(x, {kWidth}, w, b, kEps);
    test::expect_equal(layer_norm_modulate(x, w, b, kEps, text_rows_, shift, scale),
                       normed * (1 + rows(scale)) + rows(shift), "modulated");
    test::expect_equal(gated_residual(x, y_.to(at::kBFloat16), text_rows_, scale),
                       x + rows(scale) * y_.to(at::kBFloat16), "residual");
}

INSTANTIATE_TEST_SUITE_P(TextRows, Modulation, testing::Values(0, 3, kRows));

}  // namespace
}  // namespace matrix::kernels
