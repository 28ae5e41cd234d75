#include "matrix/kernels/mask_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "gradients.h"

// E entities of n pixels.

namespace matrix::kernels {
namespace {

constexpr std::int64_t kEntities = 3, kPixels = 40'003;

class MaskLoss : public testing::Test {
protected:
    MaskLoss() { at::manual_seed(7); }

    static MaskSlopes random_slopes() {
        const auto column = [] { return at::randn({kEntities}, at::kDouble); };
        return {column(), column(), column(), column(), column()};
    }
    static std::vector<at::Tensor> listed(const MaskSums& s) {
        return {s.positives, s.positive_bce, s.all_bce, s.overlap, s.foreground, s.squares};
    }

    at::Tensor x_ = at::randn({kEntities, kPixels}) * 6;
    at::Tensor y_ = at::randn({kEntities, kPixels}).gt(1);
    MaskSlopes slopes_ = random_slopes();
};

TEST_F(MaskLoss, SumsEqualTheirDefinitions) {
    const at::Tensor x = x_.to(at::kDouble), y = y_.to(at::kDouble), s = x.sigmoid();
    const at::Tensor bce = -(y * at::log_sigmoid(x) + (1 - y) * at::log_sigmoid(-x));
    const std::vector<at::Tensor> wanted = {
        y.sum(1), (y * bce).sum(1), bce.sum(1), (s * y).sum(1), s.sum(1), (s - y).square().sum(1)};
    const auto narrow = listed(mask_sums(x_, y_)), wide = listed(mask_sums(x, y_));
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        // Runs of 512 values are added in float32, in the order of the compiler's choice.
        test::expect_close(narrow[i], wanted[i], 1e-6, "sum " + std::to_string(i));
        // ATen's softplus(x) is x from 20 on: 2e-9 less.
        test::expect_close(wide[i], wanted[i], 1e-11, "sum " + std::to_string(i));
    }
}

TEST_F(MaskLoss, GradientEqualsItsDefinition) {
    const at::Tensor x = x_.to(at::kDouble), y = y_.to(at::kDouble), s = x.sigmoid();
    const auto column = [](const at::Tensor& t) { return t.unsqueeze(1); };
    const at::Tensor wanted = (s - y) * (column(slopes_.bce) + y * column(slopes_.extra_bce)) +
                              ((s - y) * column(slopes_.square) + column(slopes_.everywhere) +
                               y * column(slopes_.inside)) *
                                  s * (1 - s);
    test::expect_close(mask_gradient(x_, y_, slopes_), wanted, 5e-7, "gradient");
    test::expect_close(mask_gradient(x, y_, slopes_), wanted, 1e-13, "gradient");
}

// Masks in any dtype, logits that are a view.
TEST_F(MaskLoss, TakesWhatIsStored) {
    const at::Tensor apart = x_.t().contiguous().t();
    const at::Tensor gradient = mask_gradient(x_, y_, slopes_);
    for (const auto dtype : {at::kByte, at::kFloat, at::kLong}) {
        const at::Tensor y = y_.to(dtype).t().contiguous().t();
        test::expect_equal(mask_sums(apart, y).all_bce, mask_sums(x_, y_).all_bce, "sums");
        test::expect_equal(mask_gradient(apart, y, slopes_), gradient, "gradient");
    }
}

TEST_F(MaskLoss, HasTheSameBitsOnTwoThreads) {
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const auto sums = listed(mask_sums(x_, y_));
    const at::Tensor gradient = mask_gradient(x_, y_, slopes_);
    at::set_num_threads(2);
    const auto again = listed(mask_sums(x_, y_));
    for (std::size_t i = 0; i < sums.size(); ++i) {
        test::expect_equal(again[i], sums[i], "sum " + std::to_string(i));
    }
    test::expect_equal(mask_gradient(x_, y_, slopes_), gradient, "gradient");
    at::set_num_threads(threads);
}

TEST_F(MaskLoss, IsFiniteForFiniteLogitsAndHidesNoOthers) {
    const float most = std::numeric_limits<float>::max();
    const at::Tensor x = at::full({2, 20}, most) * at::tensor({1.0F, -1.0F}).unsqueeze(1);
    const at::Tensor y = at::tensor({0, 1}).unsqueeze(1).expand({2, 20});
    test::expect_close(mask_sums(x, y).all_bce, at::full({2}, 20.0 * most, at::kDouble), 1e-7,
                       "cross-entropy");
    MaskSlopes slopes;
    for (at::Tensor* slope :
         {&slopes.bce, &slopes.extra_bce, &slopes.square, &slopes.everywhere, &slopes.inside}) {
        *slope = at::ones({2}, at::kDouble);
    }
    EXPECT_TRUE(mask_gradient(x, y, slopes).isfinite().all().item<bool>());
    x[1][3] = std::numeric_limits<float>::quiet_NaN();
    for (const at::Tensor& sum : listed(mask_sums(x, y * 0))) {
        EXPECT_TRUE(std::isfinite(sum[0].item<double>()));
    }
    EXPECT_TRUE(std::isnan(mask_sums(x, y).all_bce[1].item<double>()));
    EXPECT_TRUE(std::isnan(mask_sums(x, y).foreground[1].item<double>()));
    EXPECT_TRUE(std::isnan(mask_gradient(x, y, slopes)[1][3].item<float>()));
}

TEST_F(MaskLoss, RefusesOtherShapes) {
    EXPECT_THROW((void)mask_sums(x_, y_.narrow(1, 0, 5)), c10::Error);
    EXPECT_THROW((void)mask_gradient(x_, y_.narrow(0, 0, 1), slopes_), c10::Error);
}

}  // namespace
}  // namespace matrix::kernels
