#include "matrix/media/draw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "support/tensors.h"

namespace matrix::media {
namespace {

using test::expect_equal;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Color pixel(const at::Tensor& image, std::int64_t y, std::int64_t x) {
    return {image[y][x][0].item<std::uint8_t>(), image[y][x][1].item<std::uint8_t>(),
            image[y][x][2].item<std::uint8_t>()};
}

/// Pixels that are exactly `color`.
std::int64_t count(const at::Tensor& image, Color color) {
    at::Tensor same = image.select(2, 0).eq(color[0]);
    same = same & image.select(2, 1).eq(color[1]) & image.select(2, 2).eq(color[2]);
    return same.sum().item<std::int64_t>();
}

TEST(HeatColor, BrightnessRisesWithTheValue) {
    double before = -1.0;
    for (int i = 0; i <= 20; ++i) {
        const Color c = heat_color(i / 20.0);
        const double brightness = 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
        EXPECT_GT(brightness, before);
        before = brightness;
    }
    EXPECT_EQ(heat_color(-3.0), heat_color(0.0));
    EXPECT_EQ(heat_color(7.0), heat_color(1.0));
    EXPECT_GT(heat_color(0.5)[0], heat_color(0.5)[2]);  // red before blue: channels are not swapped
}

TEST(OverlayHeat, UsesTheRangeItIsGiven) {
    const at::Tensor frame = at::full({32, 48, 3}, 100, at::kByte);
    const at::Tensor map = at::full({2, 3}, 0.5F);
    const at::Tensor full = overlay_heat(frame, map, 0.0, 0.5, 1.0);
    EXPECT_EQ(pixel(full, 7, 9), heat_color(1.0));
    EXPECT_EQ(pixel(overlay_heat(frame, map, 0.0, 1.0, 1.0), 31, 47), heat_color(128.0 / 255.0));
    expect_equal(overlay_heat(frame, map, 0.0, 1.0, 0.0), frame, "transparent");
    EXPECT_EQ(count(frame, {100, 100, 100}), 32 * 48);
}

TEST(OverlayHeat, LeavesUnknownCellsAlone) {
    const at::Tensor frame = at::full({32, 32, 3}, 77, at::kByte);
    at::Tensor map = at::ones({2, 2}, at::kDouble);
    map[0][0] = kNaN;
    const at::Tensor out = overlay_heat(frame, map, 0.0, 1.0, 1.0);
    EXPECT_EQ(count(out.slice(0, 0, 16).slice(1, 0, 16), {77, 77, 77}), 256);
    EXPECT_EQ(pixel(out, 31, 31), heat_color(1.0));
}

TEST(OutlineMask, FollowsTheBorderAndSparesTheRest) {
    const at::Tensor frame = at::full({60, 60, 3}, 200, at::kByte);
    at::Tensor mask = at::zeros({60, 60}, at::kByte);
    mask.slice(0, 20, 40).slice(1, 20, 40).fill_(1);
    const at::Tensor out = outline_mask(frame, mask, {255, 0, 0}, 1);
    // Antialiasing lets a little of the rim through.
    for (const Color border : {pixel(out, 20, 30), pixel(out, 30, 39)}) {
        EXPECT_GT(border[0], 200);
        EXPECT_LT(border[1], 20);
    }
    EXPECT_LT(pixel(out, 18, 30)[0], 150);  // the rim
    EXPECT_EQ(pixel(out, 30, 30), (Color{200, 200, 200}));
    EXPECT_EQ(pixel(out, 5, 5), (Color{200, 200, 200}));
    expect_equal(outline_mask(frame, at::zeros_like(mask), {255, 0, 0}), frame, "empty mask");
}

TEST(Label, DarkensItsBoxAndMayStickOut) {
    const at::Tensor frame = at::full({60, 100, 3}, 200, at::kByte);
    const at::Tensor out = label(frame, "two\nlines", 4, 4, 0.5);
    EXPECT_EQ(pixel(out, 4, 4), (Color{70, 70, 70}));
    EXPECT_EQ(pixel(out, 59, 99), (Color{200, 200, 200}));
    EXPECT_GT(out.gt(215).sum().item<std::int64_t>(), 50);  // the strokes
    EXPECT_EQ(label(frame, "far away", 90, 50).sizes(), frame.sizes());
    expect_equal(label(frame, "outside", 200, 200), frame, "outside");
}

TEST(Tile, PutsEveryPictureInItsPlace) {
    const at::Tensor red = at::zeros({20, 30, 3}, at::kByte),
                     blue = at::zeros({20, 30, 3}, at::kByte);
    red.select(2, 0).fill_(255);
    blue.select(2, 2).fill_(255);
    Grid grid;
    grid.rows = {{red, blue}, {at::Tensor(), red}};
    const at::Tensor plain = tile(grid);
    EXPECT_EQ(plain.sizes(), (std::vector<std::int64_t>{6 + 2 * 26, 6 + 2 * 36, 3}));
    EXPECT_EQ(count(plain, {255, 0, 0}), 2 * 600);
    EXPECT_EQ(count(plain, {0, 0, 255}), 600);
    EXPECT_EQ(pixel(plain, 6, 6), (Color{255, 0, 0}));
    EXPECT_EQ(pixel(plain, 40, 20), (Color{255, 255, 255}));

    grid.title = "Title";
    grid.row_captions = {"first", "second\nline"};
    grid.column_captions = {"a", "b"};
    const at::Tensor captioned = tile(grid);
    EXPECT_EQ(count(captioned, {255, 0, 0}), 2 * 600);
    EXPECT_GT(captioned.size(0), plain.size(0));
    EXPECT_GE(captioned.size(1), plain.size(1) + text_width_px("second", 0.5));
    EXPECT_THROW((void)tile(Grid{}), c10::Error);
    grid.rows[1][1] = at::zeros({20, 31, 3}, at::kByte);
    EXPECT_THROW((void)tile(grid), c10::Error);
}

Plot simple_plot() {
    Plot plot;
    plot.series = {{"a", {0, 1, 2, 3}, {0, 1, 2, 3}, 1}};
    plot.width_px = 300;
    plot.height_px = 200;
    return plot;
}

TEST(DrawPlot, HigherValuesStandHigher) {
    const at::Tensor image = draw_plot(simple_plot());
    EXPECT_EQ(image.sizes(), (std::vector<std::int64_t>{400, 600, 3}));
    EXPECT_EQ(pixel(image, 399, 599), (Color{255, 255, 255}));
    const Color color = palette_color(0);
    const at::Tensor left = image.slice(0, 60, 400).slice(1, 100, 200);
    const at::Tensor right = image.slice(0, 60, 400).slice(1, 450, 550);
    const auto mean_row = [&](const at::Tensor& part) {
        const at::Tensor rows =
            part.select(2, 2).eq(color[2]).logical_and(part.select(2, 0).eq(color[0])).nonzero();
        EXPECT_GT(rows.size(0), 50);
        return rows.select(1, 0).to(at::kFloat).mean().item<float>();
    };
    EXPECT_GT(mean_row(left), mean_row(right) + 100.0F);
}

TEST(DrawPlot, NaNBreaksTheLine) {
    Plot plot = simple_plot();
    plot.series[0].label.clear();
    const std::int64_t whole = count(draw_plot(plot), palette_color(0));
    plot.series[0].x = {0, 1, 1.5, 2, 3};
    plot.series[0].y = {0, 1, kNaN, 2, 3};
    const std::int64_t broken = count(draw_plot(plot), palette_color(0));
    EXPECT_LT(broken, whole * 8 / 10);
    EXPECT_GT(broken, whole * 5 / 10);
}

TEST(DrawPlot, LogAxisDropsWhatHasNoLogarithm) {
    Plot plot = simple_plot();
    plot.log_y = true;
    plot.series[0].y = {1, 10, 100, 1000};
    const at::Tensor clean = draw_plot(plot);
    plot.series[0].x = {0, 1, 2, 3, 4, 5};
    plot.series[0].y = {1, 10, 100, 1000, 0, -5};
    expect_equal(draw_plot(plot), clean, "log plot");
}

TEST(DrawPlot, SurvivesEmptyFlatAndExtremeData) {
    Plot plot = simple_plot();
    plot.title = "t";
    plot.x_label = "x";
    plot.y_label = "a label that is longer than the axis is high, by far, and then some more of it";
    plot.references = {{"reference", 1.0}, {"", -2.0}};
    for (const bool log : {false, true}) {
        plot.log_y = log;
        for (const std::vector<double>& y :
             std::vector<std::vector<double>>{{},
                                              {5, 5, 5, 5},
                                              {0, 0, 0, 0},
                                              {kNaN, kNaN, kNaN, kNaN},
                                              {1e-9, 2e-9, 1e-8, 1e-7},
                                              {1e12, 3e12, 2e12, 9e13},
                                              {-1e-3, 1e-3, 5, 1e6},
                                              {0.501, 0.502, 0.503, 0.504}}) {
            plot.series[0].x = y.empty() ? std::vector<double>{} : std::vector<double>{0, 1, 2, 3};
            plot.series[0].y = y;
            plot.series[0].smooth = 3;
            EXPECT_EQ(draw_plot(plot).size(1), 600);
        }
    }
    plot.series[0].x = {1.0};
    EXPECT_THROW((void)draw_plot(plot), c10::Error);
}

}  // namespace
}  // namespace matrix::media
