#include "matrix/kernels/mask_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gradients.h"

// E entities of n pixels.

namespace matrix::kernels {
namespace {

constexpr std::int64_t kEntities = 3, kPixels = 40'003;

MaskSlopes random_slopes() {
    const auto column = [] { return at::randn({kEntities}, at::kDouble); };
    return {column(), column(), column(), column(), column()};
}

std::vector<at::Tensor> listed(const MaskSums& s) {
    return {s.positives, s.positive_bce, s.all_bce, s.overlap, s.foreground, s.squares};
}

class MaskLoss : public testing::Test {
protected:
    MaskLoss() { at::manual_seed(7); }

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
        test::expect_close(mask_sums(apart, y).all_bce, mask_sums(x_, y_).all_bce, 1e-7, "sums");
        test::expect_close(mask_gradient(apart, y, slopes_), gradient, 1e-6, "gradient");
    }
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

/// Which parts there are.
struct Parts {
    bool rows, cells;
    std::int64_t frames;
};

class MaskCells : public testing::TestWithParam<Parts> {
protected:
    static constexpr std::int64_t kSteps = 3, kHeight = 3, kCells = 35;  // 560 columns: two runs

    MaskCells() { at::manual_seed(7); }

    [[nodiscard]] CellLogits random_logits() const {
        const Parts p = GetParam();
        CellLogits logits{{}, {}, p.frames};
        if (p.rows) {
            logits.rows = at::randn({kEntities, kSteps, kHeight, kCellPixels * kCells}) * 4;
        }
        if (p.cells) {
            logits.cells = at::randn({kEntities, kSteps, kHeight, kCells,
                                      p.frames * kCellPixels * kCellPixels}) *
                           3;
        }
        return logits;
    }
    static CellLogits wide(const CellLogits& logits) {
        const auto as_double = [](const at::Tensor& part) {
            return part.defined() ? part.to(at::kDouble) : part;
        };
        return {as_double(logits.rows), as_double(logits.cells), logits.frames};
    }
    static at::Tensor random_masks(const CellLogits& logits) {
        return at::randn(pixel_logits(logits).sizes()).gt(0.5);
    }
    static std::vector<at::Tensor> all_of(const CellLogits& logits, const at::Tensor& y,
                                          const MaskSlopes& slopes) {
        std::vector<at::Tensor> all = listed(mask_sums(logits, y));
        const CellLogits g = mask_gradient(logits, y, slopes);
        for (const at::Tensor& part : {g.rows, g.cells}) {
            if (part.defined()) {
                all.push_back(part);
            }
        }
        return all;
    }
};

// A pixel's logit, written out.
TEST_P(MaskCells, MakePixels) {
    const CellLogits logits = wide(random_logits());
    const std::int64_t frames = logits.frames;
    const at::Tensor x = pixel_logits(logits)[1];
    ASSERT_EQ(x.sizes(), at::IntArrayRef({frames * (kSteps - 1) + 1, 16 * kHeight, 16 * kCells}));
    for (const auto& [t, row, column] : {std::tuple{std::int64_t{0}, 0, 0},
                                         {0, 24, 100},
                                         {1, 7, 5},
                                         {2, 8, 16},
                                         {3, 47, 559},
                                         {2 * frames, 33, 31}}) {
        const std::int64_t step = (t + frames - 1) / frames, frame = (t + frames - 1) % frames;
        double wanted = 0;
        if (logits.rows.defined()) {
            const double centre = (row + 0.5) / 16 - 0.5, low = std::floor(centre);
            const auto value = [&, column = column](double at_row) {
                const auto i = std::clamp<std::int64_t>(static_cast<std::int64_t>(at_row), 0, 2);
                return logits.rows[1][step][i][column].item<double>();
            };
            wanted += (1 - (centre - low)) * value(low) + (centre - low) * value(low + 1);
        }
        if (logits.cells.defined()) {
            wanted += logits
                          .cells[1][step][row / 16][column / 16]
                                [(frame * 16 + row % 16) * 16 + column % 16]
                          .item<double>();
        }
        EXPECT_NEAR(x[t][row][column].item<double>(), wanted, 1e-12) << t << ' ' << row;
    }
}

TEST_P(MaskCells, OnePassEqualsEveryPixelInFloat64) {
    const CellLogits logits = random_logits();
    const at::Tensor y = random_masks(logits);
    const MaskSlopes slopes = random_slopes();
    const auto narrow = all_of(logits, y, slopes), exact = all_of(wide(logits), y, slopes);
    ASSERT_EQ(narrow.size(), exact.size());
    for (std::size_t i = 0; i < exact.size(); ++i) {
        EXPECT_EQ(narrow[i].scalar_type(), i < 6 ? at::kDouble : at::kFloat);
        test::expect_close(narrow[i], exact[i], 1e-6, "tensor " + std::to_string(i));
    }
}

// One step and one row of cells; rows that are a view; masks in any dtype.
TEST_P(MaskCells, TakeWhatIsStored) {
    const CellLogits logits = random_logits();
    const at::Tensor y = random_masks(logits);
    const MaskSlopes slopes = random_slopes();
    const auto wanted = all_of(logits, y, slopes);
    CellLogits views = logits;
    for (at::Tensor* part : {&views.rows, &views.cells}) {
        if (part->defined()) {
            *part = part->transpose(1, 2).contiguous().transpose(1, 2);
        }
    }
    for (const auto dtype : {at::kByte, at::kFloat, at::kLong}) {
        const auto again =
            all_of(views, y.to(dtype).transpose(2, 3).contiguous().transpose(2, 3), slopes);
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            test::expect_equal(again[i], wanted[i], "tensor " + std::to_string(i));
        }
    }
    CellLogits one = logits;
    for (at::Tensor* part : {&one.rows, &one.cells}) {
        if (part->defined()) {
            *part = part->narrow(1, 0, 1).narrow(2, 1, 1);
        }
    }
    const at::Tensor least = random_masks(one);
    ASSERT_EQ(least.sizes(), at::IntArrayRef({kEntities, 1, 16, 16 * kCells}));
    const auto narrow = all_of(one, least, slopes), exact = all_of(wide(one), least, slopes);
    for (std::size_t i = 0; i < exact.size(); ++i) {
        test::expect_close(narrow[i], exact[i], 1e-6, "of one, tensor " + std::to_string(i));
    }
}

TEST_P(MaskCells, HaveTheSameBitsOnTwoThreads) {
    const CellLogits logits = random_logits();
    const at::Tensor y = random_masks(logits);
    const MaskSlopes slopes = random_slopes();
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const auto once = all_of(logits, y, slopes);
    at::set_num_threads(2);
    const auto again = all_of(logits, y, slopes);
    at::set_num_threads(threads);
    for (std::size_t i = 0; i < once.size(); ++i) {
        test::expect_equal(again[i], once[i], "tensor " + std::to_string(i));
    }
}

TEST_P(MaskCells, AreFiniteForFiniteLogitsAndHideNoOthers) {
    CellLogits logits = random_logits();
    at::Tensor& part = logits.rows.defined() ? logits.rows : logits.cells;
    if (logits.cells.defined()) {
        logits.cells.zero_();
    }
    part[0].fill_(std::numeric_limits<float>::max());
    part[1].fill_(std::numeric_limits<float>::lowest());
    const at::Tensor y = random_masks(logits);
    for (const at::Tensor& value : all_of(logits, y, random_slopes())) {
        EXPECT_TRUE(value.isfinite().all().item<bool>());
    }
    part[2][1][1].select(-1, 3).fill_(std::numeric_limits<float>::quiet_NaN());
    const auto spoilt = all_of(logits, y, random_slopes());
    for (std::size_t i = 2; i < spoilt.size(); i += 2) {
        EXPECT_TRUE(spoilt[i][2].isnan().any().item<bool>()) << i;
        EXPECT_TRUE(spoilt[i].narrow(0, 0, 2).isfinite().all().item<bool>()) << i;
    }
}

TEST_P(MaskCells, OfNoEntityAreNothing) {
    CellLogits logits = random_logits();
    for (at::Tensor* part : {&logits.rows, &logits.cells}) {
        *part = part->defined() ? part->narrow(0, 0, 0) : *part;
    }
    const at::Tensor none = at::zeros({0}, at::kDouble);
    for (const CellLogits& l : {logits, wide(logits)}) {
        for (const at::Tensor& value : all_of(l, random_masks(l), {none, none, none, none, none})) {
            EXPECT_EQ(value.numel(), 0);
        }
    }
}

TEST_P(MaskCells, RefuseWhatDoesNotFit) {
    const CellLogits logits = random_logits();
    const at::Tensor y = random_masks(logits);
    MaskSlopes few = random_slopes();
    for (at::Tensor* slope :
         {&few.bce, &few.extra_bce, &few.square, &few.everywhere, &few.inside}) {
        *slope = slope->narrow(0, 0, 1);
    }
    EXPECT_THROW((void)mask_gradient(logits, y, few), c10::Error);
    EXPECT_THROW((void)mask_sums(logits, y.narrow(1, 0, 2)), c10::Error);
    EXPECT_THROW((void)mask_gradient(logits, y.narrow(3, 0, 16), random_slopes()), c10::Error);
}

INSTANTIATE_TEST_SUITE_P(Of, MaskCells,
                         testing::Values(Parts{true, false, 4}, Parts{true, true, 4},
                                         Parts{false, true, 2}),
                         [](const testing::TestParamInfo<Parts>& of) {
                             return std::string(of.param.rows ? "Rows" : "") +
                                    (of.param.cells ? "Cells" : "");
                         });

TEST(CellLogits, MustFitEachOther) {
    const at::Tensor rows = at::zeros({1, 2, 3, 32});
    EXPECT_THROW((void)pixel_logits({}), c10::Error);
    EXPECT_THROW((void)pixel_logits({at::zeros({1, 2, 3, 30}), {}, 4}), c10::Error);
    EXPECT_THROW((void)pixel_logits({rows, at::zeros({1, 2, 3, 2, 512}), 4}), c10::Error);
    EXPECT_THROW((void)pixel_logits({rows, at::zeros({1, 2, 3, 2, 1024}, at::kDouble), 4}),
                 c10::Error);
    EXPECT_EQ(pixel_logits({rows, at::zeros({1, 2, 3, 2, 1024}), 4}).sizes(),
              at::IntArrayRef({1, 5, 48, 32}));
}

}  // namespace
}  // namespace matrix::kernels
