#include "matrix/media/geometry.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "matrix/tensor_io/safetensors.h"
#include "media_fixtures.h"
#include "support/tensors.h"

namespace matrix::media {
namespace {

using test::expect_equal;

TEST(Fit, CropCoversTheTargetAndCentres) {
    const Geometry g = fit(1080, 1920, 480, 720, Resize::kCrop);
    EXPECT_EQ(g.scaled_height_px, 480);
    EXPECT_EQ(g.scaled_width_px, 853);  // 853.33
    EXPECT_EQ(g.top_px, 0);
    EXPECT_EQ(g.left_px, 66);  // floor(133 / 2)
    const Geometry tall = fit(1920, 1080, 480, 720, Resize::kCrop);
    EXPECT_EQ(tall.scaled_height_px, 1280);
    EXPECT_EQ(tall.scaled_width_px, 720);
    EXPECT_EQ(tall.top_px, 400);
    EXPECT_EQ(tall.left_px, 0);
}

TEST(Fit, HalvesGoToEven) {
    // s = 1.5: 3 * 1.5 = 4.5 -> 4, 5 * 1.5 = 7.5 -> 8.
    EXPECT_EQ(fit(2, 3, 3, 3, Resize::kCrop).scaled_width_px, 4);
    EXPECT_EQ(fit(2, 5, 3, 3, Resize::kCrop).scaled_width_px, 8);
}

TEST(Fit, NeverBelowTheTarget) {
    for (std::int64_t h = 1; h < 60; ++h) {
        for (std::int64_t w = 1; w < 60; ++w) {
            const Geometry g = fit(h, w, 32, 48, Resize::kCrop);
            ASSERT_GE(g.scaled_height_px, 32);
            ASSERT_GE(g.scaled_width_px, 48);
            ASSERT_TRUE(g.scaled_height_px == 32 || g.scaled_width_px == 48) << h << " x " << w;
            ASSERT_EQ(g.top_px, (g.scaled_height_px - 32) / 2);
            ASSERT_EQ(g.left_px, (g.scaled_width_px - 48) / 2);
        }
    }
}

TEST(Fit, StretchGoesStraightToTheTarget) {
    const Geometry g = fit(100, 333, 32, 48, Resize::kStretch);
    EXPECT_EQ(g.scaled_height_px, 32);
    EXPECT_EQ(g.scaled_width_px, 48);
    EXPECT_EQ(g.top_px, 0);
    EXPECT_EQ(g.left_px, 0);
}

TEST(ResizeFrames, IsOpenCvsAreaOrCubic) {
    const tensor_io::SafetensorsFile file(fixture("resize.safetensors"));
    const at::Tensor picture = file.tensor("picture");
    for (const char* name : {"smaller", "larger", "mixed"}) {
        const at::Tensor expected = file.tensor(name);
        const Geometry g = fit(37, 50, expected.size(0), expected.size(1), Resize::kStretch);
        const at::Tensor out = resize_frames(picture.unsqueeze(0), g)[0];
        ASSERT_EQ(out.sizes(), expected.sizes());
        // One level: the fixture comes from a newer OpenCV, whose vector code may round the other
        // way.
        EXPECT_LE((out.to(at::kInt) - expected.to(at::kInt)).abs().max().item<int>(), 1) << name;
    }
}

TEST(ResizeFrames, CropIsAWindowOfTheScaledPicture) {
    const at::Tensor frames = at::randint(0, 256, {3, 37, 50, 3}, at::kByte);
    const Geometry g = fit(37, 50, 16, 32, Resize::kCrop);
    Geometry whole = fit(37, 50, g.scaled_height_px, g.scaled_width_px, Resize::kStretch);
    const at::Tensor scaled = resize_frames(frames, whole);
    expect_equal(resize_frames(frames, g), scaled.narrow(1, g.top_px, 16).narrow(2, g.left_px, 32),
                 "window");
    EXPECT_GT(g.top_px, 0);
}

TEST(ResizeFrames, EqualSizesAreACopy) {
    const at::Tensor frames = at::randint(0, 256, {2, 20, 32, 3}, at::kByte);
    expect_equal(resize_frames(frames, fit(20, 32, 20, 32, Resize::kCrop)), frames, "copy");
    const at::Tensor out = resize_frames(frames, fit(20, 32, 16, 32, Resize::kCrop));
    expect_equal(out, frames.narrow(1, 2, 16), "window");
    out.zero_();
    EXPECT_GT(frames.sum().item<std::int64_t>(), 0);
}

/// The formula in floating point, the long way: pixel centres, then floor.
at::Tensor slow_mask(const at::Tensor& mask, const Geometry& g) {
    at::Tensor out = at::zeros({g.height_px, g.width_px}, at::kByte);
    for (std::int64_t y = 0; y < g.height_px; ++y) {
        for (std::int64_t x = 0; x < g.width_px; ++x) {
            const long double row = (static_cast<long double>(y + g.top_px) + 0.5L) *
                                    static_cast<long double>(mask.size(0)) /
                                    static_cast<long double>(g.scaled_height_px);
            const long double column = (static_cast<long double>(x + g.left_px) + 0.5L) *
                                       static_cast<long double>(mask.size(1)) /
                                       static_cast<long double>(g.scaled_width_px);
            // The products are exact at these sizes, and the quotient's error is far below 1 / (2
            // scaled).
            out[y][x] = mask[static_cast<std::int64_t>(std::floor(row + 1e-12L))]
                            [static_cast<std::int64_t>(std::floor(column + 1e-12L))];
        }
    }
    return out;
}

TEST(ResizeMask, IsNearestInTheScaledGrid) {
    for (const auto& [h, w] : {std::pair{37, 50}, {74, 100}, {18, 25}, {16, 16}, {5, 64}}) {
        const at::Tensor mask = at::randint(0, 2, {h, w}, at::kByte);
        for (const Resize resize : {Resize::kCrop, Resize::kStretch}) {
            const Geometry g = fit(37, 50, 16, 32, resize);
            expect_equal(resize_mask(mask, g), slow_mask(mask, g), "mask");
        }
    }
}

TEST(ResizeMask, OwnSizeWithoutScalingIsACopy) {
    const at::Tensor mask = at::randint(0, 2, {16, 32}, at::kByte);
    expect_equal(resize_mask(mask, fit(16, 32, 16, 32, Resize::kCrop)), mask, "mask");
}

TEST(IdMap, LaterIdsWin) {
    at::Tensor one = at::zeros({2, 5}, at::kByte), two = one.clone(), five = one.clone();
    one[0].fill_(1);
    two[0][1] = 1;
    two[1][1] = 1;
    five[0][1] = 1;
    five[0][2] = 7;  // any value but zero
    // The order of the list does not matter.
    const at::Tensor map = paint_id_map({five, one, two}, {5, 1, 2});
    const auto color = [&](int row, int column) {
        return std::vector<int>{map[row][column][0].item<int>(), map[row][column][1].item<int>(),
                                map[row][column][2].item<int>()};
    };
    EXPECT_EQ(map.sizes(), (std::vector<std::int64_t>{2, 5, 3}));
    EXPECT_EQ(color(0, 0), (std::vector<int>{255, 0, 0}));
    EXPECT_EQ(color(0, 1), (std::vector<int>{255, 0, 255}));
    EXPECT_EQ(color(0, 2), (std::vector<int>{255, 0, 255}));
    EXPECT_EQ(color(1, 1), (std::vector<int>{0, 255, 0}));
    EXPECT_EQ(color(1, 4), (std::vector<int>{0, 0, 0}));
    const at::Tensor full = at::ones({1, 1}, at::kByte);
    EXPECT_EQ(paint_id_map({full}, {3})[0][0][2].item<int>(), 255);
    EXPECT_EQ(paint_id_map({full}, {4})[0][0][1].item<int>(), 255);
    EXPECT_THROW((void)paint_id_map({full}, {6}), c10::Error);
}

TEST(ModelRange, IsExactInFloat32) {
    const at::Tensor frames = at::arange(256, at::kByte).view({2, 128, 1, 1}).repeat({1, 1, 1, 3});
    const at::Tensor out = to_model_range(frames);  // [3, 2, 128, 1]
    EXPECT_EQ(out.sizes(), (std::vector<std::int64_t>{3, 2, 128, 1}));
    EXPECT_TRUE(out.is_contiguous());
    for (int value = 0; value < 256; ++value) {
        const float wanted = static_cast<float>(value) / 255.0F * 2.0F - 1.0F;
        EXPECT_EQ(out[1][value / 128][value % 128][0].item<float>(), wanted) << value;
    }
}

TEST(QueryCells, HalfOfTheCellIsEnough) {
    at::Tensor mask = at::zeros({32, 48}, at::kByte);
    mask.slice(0, 0, 8).slice(1, 0, 16).fill_(1);   // 128 pixels of cell (0, 0)
    mask.slice(0, 0, 8).slice(1, 16, 32).fill_(1);  // and one less of cell (0, 1)
    mask[0][16] = 0;
    const at::Tensor cells = query_cells(mask, false);
    EXPECT_EQ(cells.sizes(), (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(cells.sum().item<int>(), 1);
    EXPECT_EQ(cells[0][0].item<int>(), 1);
}

TEST(QueryCells, TheBestCellStandsInAndTiesGoToTheFirst) {
    at::Tensor mask = at::zeros({32, 48}, at::kByte);
    EXPECT_EQ(query_cells(mask, false).sum().item<int>(), 0);
    mask[5][40] = 1;
    mask[20][3] = 1;
    at::Tensor cells = query_cells(mask, false);
    EXPECT_EQ(cells.sum().item<int>(), 1);
    EXPECT_EQ(cells[0][2].item<int>(), 1);
    mask[21][3] = 1;
    cells = query_cells(mask, false);
    EXPECT_EQ(cells.sum().item<int>(), 1);
    EXPECT_EQ(cells[1][0].item<int>(), 1);
}

TEST(QueryCells, NearestTakesTheCornerPixelAlone) {
    at::Tensor mask = at::zeros({32, 48}, at::kByte);
    mask[16][32] = 1;
    mask.slice(0, 1, 16).slice(1, 1, 16).fill_(1);
    const at::Tensor cells = query_cells(mask, true);
    EXPECT_EQ(cells.sum().item<int>(), 1);
    EXPECT_EQ(cells[1][2].item<int>(), 1);
    mask[16][32] = 0;
    EXPECT_EQ(query_cells(mask, true).sum().item<int>(), 0);
}

}  // namespace
}  // namespace matrix::media
