#include "matrix/kernels/modulation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>

#include "gradients.h"

// B batch, S rows of which the first are text, D width.

namespace matrix::kernels {
namespace {

constexpr std::int64_t kBatch = 2, kRows = 7;
constexpr double kEps = 1e-3;

/// Every row's own value: [B, S, D] from two of [B, 1, D].
at::Tensor spread(const RowValues& values, std::int64_t text_rows, std::int64_t rows) {
    return at::cat(
        {values.text.expand({-1, text_rows, -1}), values.video.expand({-1, rows - text_rows, -1})},
        1);
}

RowValues random_values(std::int64_t width) {
    return {at::randn({kBatch, 1, width}), at::randn({kBatch, 1, width})};
}

RowValues in(at::ScalarType dtype, const RowValues& v) {
    return {v.text.to(dtype), v.video.to(dtype)};
}

class Modulation : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t>> {
protected:
    Modulation() { at::manual_seed(3); }

    [[nodiscard]] at::Tensor random() const { return at::randn({kBatch, kRows, width_}); }
    /// The definition, in the dtype of x.
    [[nodiscard]] at::Tensor plain(const at::Tensor& x, bool has_weight, bool has_bias) const {
        const at::ScalarType dtype = x.scalar_type();
        const auto given = [&](bool has, const at::Tensor& value) {
            return has ? std::optional(value.to(dtype)) : std::nullopt;
        };
        const at::Tensor y =
            at::layer_norm(x, {width_}, given(has_weight, weight_), given(has_bias, bias_), kEps);
        return y * (1 + spread(in(dtype, scale_), text_rows_, kRows)) +
               spread(in(dtype, shift_), text_rows_, kRows);
    }
    [[nodiscard]] at::Tensor run(const at::Tensor& x, bool has_weight, bool has_bias) const {
        const at::ScalarType dtype = x.scalar_type();
        return layer_norm_modulate(x, has_weight ? weight_.to(dtype) : at::Tensor(),
                                   has_bias ? bias_.to(dtype) : at::Tensor(), kEps, text_rows_,
                                   in(dtype, shift_), in(dtype, scale_));
    }
    [[nodiscard]] at::Tensor plain_residual(const at::Tensor& x, const at::Tensor& y) const {
        return x + spread(in(x.scalar_type(), scale_), text_rows_, kRows) * y;
    }
    [[nodiscard]] at::Tensor run_residual(const at::Tensor& x, const at::Tensor& y) const {
        return gated_residual(x, y, text_rows_, in(x.scalar_type(), scale_));
    }

    std::int64_t text_rows_ = std::get<0>(GetParam()), width_ = std::get<1>(GetParam());
    // Far from zero, as rows are that a channel of many times the others' size is in.
    at::Tensor x_ = random() + 3, y_ = random(), cotangent_ = random();
    at::Tensor weight_ = at::randn({width_}), bias_ = at::randn({width_});
    RowValues shift_ = random_values(width_), scale_ = random_values(width_);
};

TEST_P(Modulation, LayerNormModulateEqualsPlainOperations) {
    for (const auto& [has_weight, has_bias] :
         {std::pair{true, true}, {false, false}, {true, false}}) {
        test::expect_same_function([&](const auto& x) { return run(x[0], has_weight, has_bias); },
                                   [&](const auto& x) { return plain(x[0], has_weight, has_bias); },
                                   {x_}, cotangent_, 1e-5);
    }
}

TEST_P(Modulation, GatedResidualEqualsPlainOperations) {
    test::expect_same_function([&](const auto& x) { return run_residual(x[0], x[1]); },
                               [&](const auto& x) { return plain_residual(x[0], x[1]); }, {x_, y_},
                               cotangent_, 1e-6);
}

TEST_P(Modulation, TakesViews) {
    const auto left = [&](const at::Tensor& t) { return t.narrow(2, 0, width_); };
    const auto right = [&](const at::Tensor& t) { return t.narrow(2, width_, width_); };
    const at::Tensor both = at::cat({x_, y_}, 2);
    // Whose gradient with respect to what is turned round is a view too.
    const auto turned = [](const at::Tensor& t) { return t.transpose(1, 2); };
    const at::Tensor cotangent = turned(cotangent_).contiguous();
    test::expect_same_function(
        [&](const auto& x) { return turned(run(right(x[0]), true, true)); },
        [&](const auto& x) { return turned(plain(right(x[0]), true, true)); }, {both}, cotangent,
        1e-5);
    test::expect_same_function(
        [&](const auto& x) { return turned(run_residual(left(x[0]), right(x[0]))); },
        [&](const auto& x) { return turned(plain_residual(left(x[0]), right(x[0]))); }, {both},
        cotangent, 1e-6);
}

TEST_P(Modulation, Bfloat16IsNoFartherThanPlainOperations) {
    test::expect_no_farther_in_bfloat16([&](const auto& x) { return run(x[0], true, true); },
                                        [&](const auto& x) { return plain(x[0], true, true); },
                                        {x_}, cotangent_);
    test::expect_no_farther_in_bfloat16([&](const auto& x) { return run_residual(x[0], x[1]); },
                                        [&](const auto& x) { return plain_residual(x[0], x[1]); },
                                        {x_, y_}, cotangent_);
}

INSTANTIATE_TEST_SUITE_P(TextRowsAndWidth, Modulation,
                         testing::Combine(testing::Values(0, 3, kRows),
                                          testing::Values(6, 67, 1032)));

TEST(ModulationThreads, HaveTheSameBits) {
    constexpr std::int64_t kMany = 301, kWidth = 257;
    at::manual_seed(4);
    const RowValues shift = random_values(kWidth), scale = random_values(kWidth);
    const auto random = [] { return at::randn({kBatch, kMany, kWidth}); };
    test::expect_same_on_two_threads(
        [&](const auto& x) {
            return gated_residual(x[1], layer_norm_modulate(x[0], {}, {}, kEps, 100, shift, scale),
                                  100, scale);
        },
        {random(), random()}, random());
}

TEST(ModulationShapes, AreChecked) {
    const at::Tensor x = at::randn({kBatch, kRows, 6});
    const RowValues right = random_values(6), wrong = random_values(5);
    EXPECT_THROW((void)layer_norm_modulate(x, {}, {}, kEps, 2, right, wrong), c10::Error);
    EXPECT_THROW((void)layer_norm_modulate(x, at::ones({5}), {}, kEps, 2, right, right),
                 c10::Error);
    EXPECT_THROW((void)layer_norm_modulate(x, {}, {}, kEps, kRows + 1, right, right), c10::Error);
    EXPECT_THROW((void)gated_residual(x, x, 2, wrong), c10::Error);
    EXPECT_THROW((void)gated_residual(x, x.to(at::kBFloat16), 2, right), c10::Error);
}

}  // namespace
}  // namespace matrix::kernels
