#include "matrix/kernels/fp8.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "gradients.h"
#include "matrix/kernels/feed_forward.h"
#include "matrix/kernels/linear.h"

namespace matrix::kernels {
namespace {

constexpr double kBfloat16Rounding = 0x1p-8;  // half a step, of the smallest value that has it

/// Float32 values in steps of e4m3, as float64: three bits after the leading one, and below the
/// smallest normal number, 2^-6, its steps.
at::Tensor in_steps(const at::Tensor& x) {
    const at::Tensor wide = x.to(at::kDouble);
    const at::Tensor exponent = wide.abs().log2().floor().clamp_min(-6);
    const at::Tensor step = at::pow(2.0, exponent - 3);
    return at::round(wide / step) * step;
}

/// The definition: what a matrix stands for once its rows are in float8, in float64.
at::Tensor through_fp8(const at::Tensor& matrix) {
    const at::Tensor wide = matrix.detach().to(at::kFloat), largest = wide.abs().amax(1, true);
    const at::Tensor scale = at::where(largest > 1e-30, largest / 448.0, at::ones_like(largest));
    return in_steps(wide / scale) * scale.to(at::kDouble);
}

/// Rows of many magnitudes: one of zeros, one with an outlier, one of subnormal numbers.
at::Tensor uneven_rows(std::int64_t rows, std::int64_t width, at::ScalarType dtype) {
    at::Tensor x = at::randn({rows, width}) * at::pow(10.0, at::linspace(-2, 2, rows)).unsqueeze(1);
    if (rows > 3) {
        x[1].zero_();
        x[2][width / 2] = 1e4;
        x[3] = at::randn({width}) * 1e-40;
    }
    return x.to(dtype);
}

struct Case {
    std::int64_t rows, in, out;
    at::ScalarType dtype;
};

class Fp8 : public testing::TestWithParam<Case> {
protected:
    Fp8() { at::manual_seed(4); }
    const Case case_ = GetParam();
    at::Tensor x_ = uneven_rows(case_.rows, case_.in, case_.dtype),
               w_ = uneven_rows(case_.out, case_.in, case_.dtype),
               bias_ = at::randn({case_.out}).to(case_.dtype),
               a_ = at::randn({2, case_.in}).to(case_.dtype),
               b_ = at::randn({case_.out, 2}).to(case_.dtype),
               cotangent_ = at::randn({case_.rows, case_.out});
};

TEST_P(Fp8, RowsAreRoundedToTheirLargestValue) {
    const Fp8Rows rows = fp8_rows(x_);
    EXPECT_EQ(rows.values.scalar_type(), at::kFloat8_e4m3fn);
    EXPECT_EQ(rows.scale.scalar_type(), at::kFloat);
    const at::Tensor values = rows.values.to(at::kDouble), exact = through_fp8(x_);
    test::expect_equal(values * rows.scale.to(at::kDouble), exact, "values");
    test::expect_equal(widened(rows, case_.dtype), exact.to(case_.dtype), "widened");
    EXPECT_EQ(values[0].abs().max().item<double>(), 448);
    if (case_.rows > 3) {
        for (const int row : {1, 3}) {
            EXPECT_EQ(rows.scale[row].item<float>(), 1) << row;
            EXPECT_EQ(values[row].abs().max().item<double>(), 0) << row;
        }
    }
}

TEST_P(Fp8, AProductIsRoundedOnce) {
    for (const at::Tensor& bias : {bias_, at::Tensor()}) {
        at::Tensor expected = at::mm(through_fp8(x_), through_fp8(w_).t());
        if (bias.defined()) {
            expected = expected + bias.to(at::kDouble);
        }
        const at::Tensor out = at::full({case_.rows, case_.out}, -1, x_.options());
        fp8_product_out(out, fp8_rows(x_), fp8_rows(w_), bias);
        // Sums in float32 err by what their largest terms do, row by row and column by column.
        const at::Tensor terms =
            at::mm(through_fp8(x_).abs(), through_fp8(w_).abs().t()) + expected.abs();
        const double rounding = case_.dtype == at::kFloat ? 0 : kBfloat16Rounding;
        const at::Tensor error = (out.to(at::kDouble) - expected).abs();
        EXPECT_TRUE(error.le(expected.abs() * rounding + terms * 1e-6).all().item<bool>())
            << (error / (terms + 1e-30)).max();
    }
}

TEST_P(Fp8, ALinearMapHasTheGradientsOfTheWideWeight) {
    const Fp8Rows rest = fp8_rows(w_);
    const at::Tensor wide = widened(rest, case_.dtype);
    const auto run = [&](bool in_fp8) {
        return test::differentiate(
            [&](const auto& leaves) {
                const LinearMap narrow{rest.values, bias_, leaves[1], leaves[2], 0.5, rest.scale},
                    plain{wide, bias_, leaves[1], leaves[2], 0.5, {}};
                return linear(leaves[0], {in_fp8 ? narrow : plain}).outputs[0];
            },
            {x_, a_, b_}, cotangent_);
    };
    const auto narrow = run(true), plain = run(false);
    for (std::size_t i = 0; i < 3; ++i) {
        test::expect_equal(narrow.grads[i], plain.grads[i], "gradient " + std::to_string(i));
    }
    // Forward: the float8 product, and the low-rank one of x as it is.
    at::Tensor expected = at::empty({case_.rows, case_.out}, x_.options());
    fp8_product_out(expected, fp8_rows(x_), rest, bias_);
    expected.addmm_(at::mm(x_, a_.t()), b_.t(), 1, 0.5);
    test::expect_equal(narrow.output, expected, "output");
    EXPECT_FALSE(at::equal(narrow.output, plain.output));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Fp8,
                         testing::Values(Case{1, 16, 5, at::kFloat}, Case{7, 33, 13, at::kFloat},
                                         Case{131, 48, 1100, at::kFloat},
                                         Case{1, 16, 5, at::kBFloat16},
                                         Case{7, 33, 13, at::kBFloat16},
                                         Case{131, 48, 1100, at::kBFloat16}));

// What is no number must reach the loss, and no other row.
TEST(Fp8Rows, KeepWhatIsNoNumber) {
    at::manual_seed(4);
    const at::Tensor x = at::randn({4, 16}), w = at::randn({5, 16}), out = at::empty({4, 5});
    x[1][3] = std::numeric_limits<float>::infinity();
    x[2][3] = std::numeric_limits<float>::quiet_NaN();
    fp8_product_out(out, fp8_rows(x), fp8_rows(w), {});
    const at::Tensor finite = out.isfinite().sum(1);
    EXPECT_TRUE(finite.equal(at::tensor({5, 0, 0, 5}, at::kLong))) << finite;
}

TEST(Fp8Product, ChecksShapes) {
    const Fp8Rows x = fp8_rows(at::ones({2, 16}));
    for (const at::Tensor& w : {at::ones({3, 16}), at::ones({2, 8})}) {
        EXPECT_THROW(fp8_product_out(at::empty({2, 2}), x, fp8_rows(w), {}), c10::Error);
    }
}

class Fp8FeedForward : public testing::TestWithParam<std::int64_t> {
protected:
    Fp8FeedForward() { at::manual_seed(7); }

    [[nodiscard]] static LinearMap at_rest(const at::Tensor& weight, const at::Tensor& bias) {
        const Fp8Rows rows = fp8_rows(weight);
        return {rows.values, bias, {}, {}, 1.0, rows.scale};
    }
    [[nodiscard]] test::Differentiated run(at::ScalarType dtype, FeedForwardMode mode) const {
        const LinearMap first = at_rest(w1_.to(dtype), b1_.to(dtype)),
                        second = at_rest(w2_.to(dtype), b2_.to(dtype));
        return test::differentiate(
            [&](const auto& x) { return feed_forward(x[0], first, second, mode); }, {x_.to(dtype)},
            cotangent_);
    }

    at::Tensor w1_ = at::randn({24, 12}), b1_ = at::randn({24}), w2_ = at::randn({12, 24}),
               b2_ = at::randn({12}), x_ = at::randn({1, GetParam(), 12}),
               cotangent_ = at::randn({1, GetParam(), 12});
};

/// Rounded in value, and as it was to a gradient.
at::Tensor straight_through(const at::Tensor& x) {
    return x + (through_fp8(x) - x.detach());
}

TEST_P(Fp8FeedForward, IsItsDefinition) {
    const auto expected = test::differentiate(
        [&](const auto& x) {
            const at::Tensor rows = x[0].flatten(0, 1);
            const at::Tensor hidden =
                at::linear(straight_through(rows), through_fp8(w1_), b1_.to(at::kDouble));
            return at::linear(straight_through(at::gelu(hidden, "tanh")), through_fp8(w2_),
                              b2_.to(at::kDouble))
                .view_as(x[0]);
        },
        {x_.to(at::kDouble)}, cotangent_);
    const auto actual = run(at::kFloat, FeedForwardMode::kKeepHidden);
    // A value between two steps may go to either, where the last bit of a GELU decides.
    const at::Tensor error = (actual.output - expected.output).abs();
    EXPECT_LE(error.gt(1e-5).sum().item<std::int64_t>(), error.numel() / 1000);
    EXPECT_LE(error.max().item<double>(), 0.3);
    test::expect_close(actual.grads[0], expected.grads[0], 1e-5, "gradient");
}

TEST_P(Fp8FeedForward, ModesHaveTheSameBits) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
        const auto kept = run(dtype, FeedForwardMode::kKeepHidden),
                   again = run(dtype, FeedForwardMode::kRecompute);
        test::expect_equal(again.output, kept.output, "output");
        test::expect_equal(again.grads[0], kept.grads[0], "gradient");
        test::expect_equal(run(dtype, FeedForwardMode::kGraphOnly).grads[0], kept.grads[0],
                           "graph only");
    }
}

// The second is more than one chunk of rows.
INSTANTIATE_TEST_SUITE_P(Rows, Fp8FeedForward, testing::Values(5, 1500));

}  // namespace
}  // namespace matrix::kernels
