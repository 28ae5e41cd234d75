#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "matrix/media/video.h"
#include "media_fixtures.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::media {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempDirectory;

/// Slowly moving smooth colours: what a lossy codec keeps. [n, H, W, 3]
at::Tensor smooth_clip(std::int64_t count, std::int64_t height, std::int64_t width) {
    const at::Tensor t = at::arange(count, at::kFloat).view({count, 1, 1});
    const at::Tensor y = at::arange(height, at::kFloat).view({1, height, 1});
    const at::Tensor x = at::arange(width, at::kFloat).view({1, 1, width});
    const at::Tensor red = (x * 0.08 + t * 0.1).sin();
    const at::Tensor green = (y * 0.1 - t * 0.1).cos();
    const at::Tensor blue = ((x + y) * 0.05).sin();
    const at::Tensor all = at::stack(at::broadcast_tensors({red, green, blue}), 3);
    return ((all * 0.4 + 0.5) * 255.0).round().to(at::kByte).contiguous();
}

void write_clip(const fs::path& path, const at::Tensor& clip, double rate, int quality = 18) {
    VideoWriter writer(path, clip.size(2), clip.size(1), rate, quality);
    for (std::int64_t i = 0; i < clip.size(0); ++i) {
        writer.write(clip[i]);
    }
    writer.finish();
}

TEST(VideoWriter, WhatIsWrittenIsReadBack) {
    const TempDirectory directory;
    // 720 lines: the tagged matrix must win over the guess by the number of lines.
    for (const std::int64_t height : {48, 720}) {
        const at::Tensor clip = smooth_clip(9, height, 64);
        const fs::path path = directory.path() / "new" / "clip.mp4";
        write_clip(path, clip, 8.0, 4);
        const VideoInfo info = probe_video(path);
        EXPECT_EQ(info.num_frames, 9);
        EXPECT_EQ(info.width_px, 64);
        EXPECT_EQ(info.height_px, height);
        EXPECT_DOUBLE_EQ(info.frames_per_second, 8.0);
        EXPECT_NEAR(info.timestamps_seconds.back(), 1.0, 1e-9);
        const at::Tensor back = read_video_frames(path, {0, 1, 2, 3, 4, 5, 6, 7, 8});
        const at::Tensor difference = (back.to(at::kFloat) - clip.to(at::kFloat)).abs();
        // The other matrix moves these colours by 9 on average; limited range and halved chroma by
        // 1 to 2.
        EXPECT_LT(difference.mean().item<float>(), 2.5F) << height;
    }
}

TEST(VideoWriter, KeepsFractionalRates) {
    const TempDirectory directory;
    write_clip(directory.path() / "clip.mp4", smooth_clip(4, 16, 16), 30000.0 / 1001.0);
    EXPECT_NEAR(probe_video(directory.path() / "clip.mp4").frames_per_second, 30000.0 / 1001.0,
                1e-6);
}

TEST(VideoWriter, EqualFramesGiveEqualFiles) {
    const TempDirectory directory;
    const at::Tensor clip = smooth_clip(9, 64, 96);
    write_clip(directory.path() / "a.mp4", clip, 8.0);
    write_clip(directory.path() / "b.mp4", clip, 8.0);
    EXPECT_TRUE(bytes_of(directory.path() / "a.mp4") == bytes_of(directory.path() / "b.mp4"));
}

TEST(VideoWriter, LeavesNothingWithoutFinish) {
    const TempDirectory directory;
    const fs::path path = write_bytes(directory.path() / "clip.mp4", "older");
    {
        VideoWriter writer(path, 16, 16, 8.0);
        writer.write(smooth_clip(1, 16, 16)[0]);
    }
    EXPECT_EQ(bytes_of(path), "older");
    EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), fs::directory_iterator()), 1);
}

TEST(VideoWriter, NamesThePathItCannotWrite) {
    const TempDirectory directory;
    const fs::path blocked = write_bytes(directory.path() / "file", "x") / "clip.mp4";
    expect_error([&] { VideoWriter(blocked, 16, 16, 8.0); },
                 {blocked.string(), "cannot write the video"});
    fs::create_directory(directory.path() / "taken.mp4");
    expect_error([&] { write_clip(directory.path() / "taken.mp4", smooth_clip(2, 16, 16), 8.0); },
                 {"taken.mp4", "cannot write the video"});
    EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), fs::directory_iterator()), 2);
}

TEST(VideoWriter, ChecksItsArguments) {
    const TempDirectory directory;
    const fs::path path = directory.path() / "clip.mp4";
    EXPECT_THROW(VideoWriter(path, 15, 16, 8.0), c10::Error);
    EXPECT_THROW(VideoWriter(path, 16, 16, 0.0), c10::Error);
    EXPECT_THROW(VideoWriter(path, 16, 16, 8.0, 52), c10::Error);
    VideoWriter writer(path, 16, 16, 8.0);
    EXPECT_THROW(writer.write(at::zeros({16, 18, 3}, at::kByte)), c10::Error);
    EXPECT_THROW(writer.write(at::zeros({16, 16, 3})), c10::Error);
    EXPECT_THROW(writer.finish(), c10::Error);
}

}  // namespace
}  // namespace matrix::media
