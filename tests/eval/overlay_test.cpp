#include "matrix/eval/overlay.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "eval/boxes.h"
#include "eval/paint.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::eval {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kHeight = 64, kWidth = 96;

TEST(Paint, HasTheProtocolsColours) {
    const std::array<media::Color, 6> colors = {
        {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 0}, {255, 0, 255}, {0, 255, 255}}};
    for (std::size_t i = 0; i < colors.size(); ++i) {
        EXPECT_EQ(object_color(i), colors[i]) << kColorNames[i];
    }
}

TEST(Paint, OneRectangleGoesAroundAllFragments) {
    at::Tensor mask = at::zeros({10, 12}, at::kByte);
    EXPECT_TRUE(bounds(mask).empty());
    mask[2][3] = 1;
    mask[6][8] = 1;
    const PixelBox box = bounds(mask);
    at::Tensor frame = at::zeros({10, 12, 3}, at::kByte);
    draw_box(frame, box, {9, 8, 7});
    at::Tensor expected = at::zeros({10, 12, 3}, at::kByte);
    expected.slice(0, 1, 8).slice(1, 2, 10).copy_(at::tensor({9, 8, 7}, at::kByte));
    expected.slice(0, 3, 6).slice(1, 4, 8).zero_();  // 2 px wide
    test::expect_equal(frame, expected, "frame");
}

TEST(Paint, ARectangleAtTheEdgeStaysInside) {
    at::Tensor frame = at::zeros({4, 4, 3}, at::kByte);
    draw_box(frame, {0, 0, 3, 3}, {1, 1, 1});
    EXPECT_EQ(frame.sum().item<std::int64_t>(), 12 * 3);
}

TEST(Paint, TintsHalfAndHalf) {
    at::Tensor frame = at::full({1, 2, 3}, 100, at::kByte);
    tint(frame, at::tensor({1, 0}, at::kByte).view({1, 2}), {255, 0, 1});
    test::expect_equal(frame, at::tensor({178, 50, 51, 100, 100, 100}, at::kByte).view({1, 2, 3}),
                       "frame");
}

TEST(Boxes, AreCutOutWithEightPercentOnEachSide) {
    const at::Tensor image =
        at::arange(100 * 200 * 3).view({100, 200, 3}).remainder(251).to(at::kByte);
    const at::Tensor crop = padded_crop(image, {"cup", {50, 10, 150, 60}, 0});
    test::expect_equal(crop, image.slice(0, 6, 64).slice(1, 42, 158), "crop");
    const at::Tensor corner = padded_crop(image, {"cup", {0, 0, 200, 100}, 0});
    EXPECT_EQ(corner.sizes(), image.sizes());
    test::expect_error(
        [&] {
            (void)padded_crop(image, {"cup", {300, 0, 320, 9}, 0});
        },
        {"cup", "outside"});
}

class OverlayTest : public ::testing::Test {
protected:
    void SetUp() override {
        media::write_video(directory_ / "in.mp4", at::full({3, kHeight, kWidth, 3}, 100, at::kByte),
                           16.0);
        for (int frame = 0; frame < 3; ++frame) {
            at::Tensor mask = at::zeros({kHeight, kWidth}, at::kByte);
            if (frame < 2) {  // and vanishes on the last one
                mask.slice(0, 16, 48).slice(1, 16, 48).fill_(255);
            }
            media::write_png(mask_path(frame), mask);
        }
    }
    [[nodiscard]] fs::path mask_path(int frame) const {
        return directory_.path() / "tracks" / "id1" / ("00" + std::to_string(frame) + ".png");
    }
    void overlay(std::size_t entities = 1) const {
        write_overlay(directory_ / "in.mp4", directory_ / "tracks", entities,
                      directory_ / "out.mp4");
    }
    test::TempDirectory directory_;
};

/// RGB of a pixel, which the codec changes by a few levels inside a region.
void expect_color(const at::Tensor& frame, std::int64_t y, std::int64_t x,
                  std::array<int, 3> expected) {
    for (std::int64_t c = 0; c < 3; ++c) {
        EXPECT_NEAR(frame[y][x][c].item<int>(), expected[static_cast<std::size_t>(c)], 12)
            << y << ", " << x << ", channel " << c;
    }
}

TEST_F(OverlayTest, TintsTheFirstFrameAndBoxesEveryOne) {
    overlay();
    const media::VideoInfo info = media::probe_video(directory_ / "out.mp4");
    EXPECT_EQ(info.num_frames, 3);
    EXPECT_DOUBLE_EQ(info.frames_per_second, 8.0);
    const at::Tensor frames = media::read_video_frames(directory_ / "out.mp4", {0, 1, 2});
    expect_color(frames[0], 32, 32, {178, 50, 50});
    expect_color(frames[1], 32, 32, {100, 100, 100});
    expect_color(frames[1], 4, 4, {100, 100, 100});
    EXPECT_GT(frames[1][32][16][0].item<int>(), 150);  // the box's edge, in red
    EXPECT_LT(frames[1][32][16][1].item<int>(), 90);
    expect_color(frames[2], 32, 16, {100, 100, 100});  // no mask, no box
}

TEST_F(OverlayTest, TakesTheFolderNamesOfADataSetToo) {
    const fs::path tracks = directory_.path() / "tracks";
    fs::rename(tracks / "id1", tracks / "<id1>");
    EXPECT_NO_THROW(overlay());
}

TEST_F(OverlayTest, FaultsOfTracksAreNamed) {
    test::expect_error([&] { overlay(2); }, {"no track", "id2"});
    fs::rename(mask_path(2), directory_.path() / "tracks" / "id1" / "003.png");
    test::expect_error([&] { overlay(); }, {"no mask", "002.png"});
    fs::remove(directory_.path() / "tracks" / "id1" / "003.png");
    test::expect_error([&] { overlay(); }, {"2 masks for a video of 3 frames"});
    media::write_png(mask_path(2), at::zeros({kHeight, kWidth / 2}, at::kByte));
    test::expect_error([&] { overlay(); }, {"48 x 64 pixels, the video has 96 x 64"});
    EXPECT_FALSE(fs::exists(directory_ / "out.mp4"));
}

}  // namespace
}  // namespace matrix::eval
