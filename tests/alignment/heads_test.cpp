#include "matrix/alignment/heads.h"

#include "alignment/reference.h"
#include "matrix/core/error.h"
#include "matrix/core/random.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace matrix::alignment {
namespace {

constexpr std::int64_t kFrames = 4, kRows = 3, kColumns = 5;

at::Tensor some_map(std::int64_t maps = 2) {
    return keyed_normal({maps, kFrames, kRows, kColumns}, 1, Purpose::kSynth, 1);
}

std::unique_ptr<Head> head_of(const std::string& kind, const std::string& which = "grounding",
                              std::uint64_t seed = 0) {
    return make_head(kind, "heads." + which, seed, at::kCPU);
}

// Gives every parameter of a head a value away from its initial zeros.
void disturb(const Head& head) {
    const at::NoGradGuard no_grad;
    std::uint64_t number = 100;
    for (const auto& [name, parameter] : head.parameters()) {
        at::Tensor(parameter).add_(keyed_normal(parameter.sizes(), 1, Purpose::kSynth, ++number) *
                                   0.2);
    }
}

std::int64_t first_frame(std::int64_t k) {
    return k == 0 ? 0 : 4 * k - 3;
}

class EveryHead : public testing::TestWithParam<std::string> {};

TEST_P(EveryHead, DecodesToPixels) {
    const at::Tensor out = head_of(GetParam())->decode(some_map());
    EXPECT_EQ(out.sizes(), at::IntArrayRef({2, 13, 48, 80}));
    EXPECT_EQ(out.scalar_type(), at::kFloat);
    EXPECT_EQ(head_of(GetParam())->decode(some_map().narrow(1, 0, 1)).sizes(),
              at::IntArrayRef({2, 1, 48, 80}));
    EXPECT_EQ(head_of(GetParam())->decode(some_map().narrow(0, 0, 0)).sizes(),
              at::IntArrayRef({0, 13, 48, 80}));
}

TEST_P(EveryHead, LatentFramesReachTheirOwnFramesAndNoEarlierOne) {
    for (const bool disturbed : {false, true}) {
        const auto head = head_of(GetParam());
        if (disturbed) {
            disturb(*head);
        }
        const at::Tensor map = some_map(1);
        const at::Tensor base = head->decode(map).detach();
        for (std::int64_t k = 0; k < kFrames; ++k) {
            at::Tensor changed = map.clone();
            changed[0][k].add_(1);
            const at::Tensor moved = (head->decode(changed) - base).abs().amax({0, 2, 3});
            const std::int64_t begin = first_frame(k);
            EXPECT_EQ(moved.narrow(0, 0, begin).sum().item<double>(), 0) << GetParam() << k;
            EXPECT_GT(moved.narrow(0, begin, 4 * k + 1 - begin).min().item<double>(), 1e-4);
        }
    }
}

TEST_P(EveryHead, MapsDoNotInfluenceEachOther) {
    const auto head = head_of(GetParam());
    disturb(*head);
    const at::Tensor map = some_map();
    const at::Tensor alone = head->decode(map.narrow(0, 1, 1));
    EXPECT_LE(reference::relative_error(head->decode(map).narrow(0, 1, 1), alone), 1e-6);
}

TEST_P(EveryHead, StartsNeitherConstantNorFlat) {
    const at::Tensor map = some_map().requires_grad_(true);
    const at::Tensor out = head_of(GetParam())->decode(map);
    EXPECT_GT(out.std().item<double>(), 1e-3);
    const at::Tensor cotangent = keyed_normal(out.sizes(), 1, Purpose::kSynth, 2);
    EXPECT_GT(torch::autograd::grad({(out * cotangent).sum()}, {map})[0].abs().min().item<double>(),
              0);
}

TEST_P(EveryHead, SeedAndNameDecide) {
    const auto a = head_of(GetParam()), b = head_of(GetParam());
    for (const auto& [name, parameter] : a->parameters()) {
        EXPECT_EQ(name.rfind("heads.grounding.", 0), 0U);
        EXPECT_TRUE(at::equal(parameter, b->parameters().at(name))) << name;
        EXPECT_TRUE(parameter.requires_grad() && parameter.is_leaf()) << name;
        EXPECT_EQ(parameter.scalar_type(), at::kFloat) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryHead, testing::Values("residual", "affine", "conv"));

TEST(Heads, FreeDecodersDifferByNameAndSeed) {
    const at::Tensor map = some_map();
    const at::Tensor out = head_of("conv")->decode(map);
    EXPECT_GT((out - head_of("conv", "propagation")->decode(map)).abs().max().item<double>(), 1e-2);
    EXPECT_GT((out - head_of("conv", "grounding", 1)->decode(map)).abs().max().item<double>(),
              1e-2);
}

// Half-pixel bilinear interpolation of one row or column, written out.
double interpolated(const at::Tensor& cells, std::int64_t y, std::int64_t x) {
    const auto weight = [](std::int64_t pixel, std::int64_t count) {
        const double centre = std::max((static_cast<double>(pixel) + 0.5) / 16 - 0.5, 0.0);
        const auto low = static_cast<std::int64_t>(centre);
        return std::tuple{low, std::min(low + 1, count - 1), centre - static_cast<double>(low)};
    };
    const auto [y0, y1, fy] = weight(y, cells.size(0));
    const auto [x0, x1, fx] = weight(x, cells.size(1));
    const auto at_cell = [&](std::int64_t i, std::int64_t j) { return cells[i][j].item<double>(); };
    return (1 - fy) * ((1 - fx) * at_cell(y0, x0) + fx * at_cell(y0, x1)) +
           fy * ((1 - fx) * at_cell(y1, x0) + fx * at_cell(y1, x1));
}

TEST(Heads, AffineIsBilinearAndRepeatsFrames) {
    const at::Tensor map = some_map(1);
    const at::Tensor out = head_of("affine")->decode(map)[0];
    for (std::int64_t frame = 0; frame < 13; ++frame) {
        const std::int64_t k = (frame + 3) / 4;
        for (const auto& [y, x] : {std::pair{0, 0}, {7, 8}, {8, 23}, {29, 40}, {47, 79}}) {
            EXPECT_NEAR(out[frame][y][x].item<double>(), interpolated(map[0][k], y, x) - 3, 1e-5);
        }
    }
}

TEST(Heads, SlopeAndOffsetFollowTheirParameters) {
    const auto head = head_of("affine");
    const at::Tensor map = some_map(1);
    const at::Tensor base = head->decode(map).detach() + 3;
    const at::NoGradGuard no_grad;
    at::Tensor(head->parameters().at("heads.grounding.gamma")).fill_(-1);
    at::Tensor(head->parameters().at("heads.grounding.beta")).fill_(0.5);
    const double slope = std::log1p(std::exp(-1.0));
    EXPECT_LE(reference::relative_error(head->decode(map), base * slope + 0.5), 1e-6);
}

TEST(Heads, ResidualStartsAsAffine) {
    const at::Tensor map = some_map();
    EXPECT_TRUE(at::equal(head_of("residual")->decode(map), head_of("affine")->decode(map)));
}

TEST(Heads, UnfoldingPutsChannelsWhereTheyBelong) {
    const auto head = head_of("residual");
    const at::NoGradGuard no_grad;
    // Only the last bias differs from zero: channel (i, y, x) is sub-frame i, pixel (y, x) of every
    // cell.
    at::Tensor(head->parameters().at("heads.grounding.residual.conv_out.bias"))
        .copy_(at::arange(1024, at::kFloat));
    const at::Tensor out = head->decode(at::zeros({1, 2, 2, 2}))[0] + 3;  // [5, 32, 32]
    EXPECT_FLOAT_EQ(out[0][0][0].item<float>(), 3 * 256);  // frame 0 is the last sub-frame
    EXPECT_FLOAT_EQ(out[1][0][0].item<float>(), 0);
    EXPECT_FLOAT_EQ(out[3][0][0].item<float>(), 2 * 256);
    EXPECT_FLOAT_EQ(out[4][18][21].item<float>(), 3 * 256 + 2 * 16 + 5);
}

TEST(Heads, RaisingACellRaisesItsPixels) {
    for (const std::string kind : {"residual", "affine"}) {
        const auto head = head_of(kind);
        const at::Tensor map = some_map(1).requires_grad_(true);
        const at::Tensor out = head->decode(map);
        EXPECT_GT(torch::autograd::grad({out.sum()}, {map})[0].min().item<double>(), 0) << kind;
        at::Tensor raised = map.detach().clone();
        raised[0][2][1][4].add_(1);
        const at::Tensor rise =
            (head->decode(raised) - out).narrow(1, 5, 4).narrow(2, 16, 16).narrow(3, 64, 16);
        EXPECT_GT(rise.mean().item<double>(), 0.5) << kind;
    }
}

TEST(Heads, NearestRepeatsCells) {
    const at::Tensor map = some_map(2);
    const at::Tensor out = repeat_cells(map);
    ASSERT_EQ(out.sizes(), at::IntArrayRef({2, 13, 48, 80}));
    for (std::int64_t frame = 0; frame < 13; ++frame) {
        const at::Tensor cells = out[1][frame].view({3, 16, 5, 16});
        EXPECT_TRUE(at::equal(cells.amax({1, 3}), map[1][(frame + 3) / 4]));
        EXPECT_TRUE(at::equal(cells.amin({1, 3}), map[1][(frame + 3) / 4]));
    }
}

TEST(Heads, UnknownKindIsNamed) {
    try {
        (void)head_of("unet");
        FAIL();
    } catch (const UsageError& error) {
        EXPECT_NE(std::string(error.what()).find("\"unet\""), std::string::npos);
    }
}

}  // namespace
}  // namespace matrix::alignment
