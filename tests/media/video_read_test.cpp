#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "matrix/media/video.h"
#include "matrix/tensor_io/safetensors.h"
#include "media_fixtures.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::media {
namespace {

using test::expect_equal;
using test::expect_error;

std::vector<std::int64_t> first(std::int64_t count) {
    std::vector<std::int64_t> indices(static_cast<std::size_t>(count));
    std::iota(indices.begin(), indices.end(), 0);
    return indices;
}

const tensor_io::SafetensorsFile& expected() {
    static const tensor_io::SafetensorsFile file(fixture("clips.safetensors"));
    return file;
}

class EveryClip : public ::testing::TestWithParam<const char*> {};

// The ffmpeg program decodes with the same libraries, so nothing but equal bits is right.
TEST_P(EveryClip, DecodesAsTheFfmpegProgram) {
    const std::string name = GetParam();
    const at::Tensor frames = expected().tensor(name + ".frames");  // [n, H, W, 3]
    const std::vector<std::int64_t> indices =
        name == "vp8_hidden.webm" ? std::vector<std::int64_t>{0, 20, 39} : first(frames.size(0));
    expect_equal(read_video_frames(fixture(name), indices), frames, name);
}

TEST_P(EveryClip, TellsSizeCountAndTimesBeforeDecoding) {
    const std::string name = GetParam();
    const at::Tensor frames = expected().tensor(name + ".frames");
    const at::Tensor times = expected().tensor(name + ".times");
    const VideoInfo info = probe_video(fixture(name));
    EXPECT_EQ(info.height_px, frames.size(1));
    EXPECT_EQ(info.width_px, frames.size(2));
    ASSERT_EQ(info.num_frames, times.size(0));
    ASSERT_EQ(info.timestamps_seconds.size(), static_cast<std::size_t>(info.num_frames));
    for (std::int64_t i = 0; i < info.num_frames; ++i) {
        // ffprobe prints microseconds.
        EXPECT_NEAR(info.timestamps_seconds[static_cast<std::size_t>(i)], times[i].item<double>(),
                    2e-6);
    }
}

TEST_P(EveryClip, HasNoMoreFramesThanItSays) {
    const std::string name = GetParam();
    const std::int64_t count = probe_video(fixture(name)).num_frames;
    EXPECT_EQ(read_video_frames(fixture(name), {count - 1}).size(0), 1);
    expect_error([&] { (void)read_video_frames(fixture(name), {count}); },
                 {name, "frame " + std::to_string(count), std::to_string(count) + " frames"});
}

INSTANTIATE_TEST_SUITE_P(Media, EveryClip,
                         ::testing::Values("h264.mp4", "h264_709_full.mp4", "h264_444_odd.mp4",
                                           "h264_10bit.mp4", "h264_720_lines.mp4", "hevc_pq.mp4",
                                           "vp9_odd.webm", "vp8_hidden.webm", "mpeg4.avi",
                                           "vfr.mp4", "edit_list.mp4", "lost_leading.mkv",
                                           "turned_90.mp4", "turned_180.mp4", "turned_270.mp4"),
                         [](const auto& clip) {
                             std::string name = clip.param;
                             std::replace(name.begin(), name.end(), '.', '_');
                             return name;
                         });

TEST(VideoRead, EveryClipOfTheFixtureIsRead) {
    std::set<std::string> names;
    for (const std::string& key : expected().keys()) {
        names.insert(key.substr(0, key.rfind('.')));
    }
    EXPECT_EQ(names.size(), 15u);
}

TEST(VideoRead, TakesAnyAscendingIndicesWithRepeats) {
    const at::Tensor all = read_video_frames(fixture("h264.mp4"), first(5));
    const at::Tensor some = read_video_frames(fixture("h264.mp4"), {1, 3, 3, 4});
    expect_equal(some, all.index_select(0, at::tensor({1, 3, 3, 4})), "frames");
    EXPECT_THROW((void)read_video_frames(fixture("h264.mp4"), {2, 1}), c10::Error);
    EXPECT_THROW((void)read_video_frames(fixture("h264.mp4"), {-1, 1}), c10::Error);
    EXPECT_THROW((void)read_video_frames(fixture("h264.mp4"), {}), c10::Error);
}

TEST(VideoRead, TurnsByTheMetadata) {
    const at::Tensor stored = read_video_frames(fixture("h264.mp4"), first(5));
    for (const int quarter : {1, 2, 3}) {
        const std::string name = "turned_" + std::to_string(90 * quarter) + ".mp4";
        expect_equal(read_video_frames(fixture(name), first(5)), at::rot90(stored, quarter, {1, 2}),
                     name);
    }
}

TEST(VideoRead, RefusesMirrorsAndOddAngles) {
    for (const auto& [name, reason] :
         {std::pair{"mirrored.mp4", "mirrored"}, std::pair{"turned_30.mp4", "30 degrees"}}) {
        expect_error([&, file = fixture(name)] { (void)probe_video(file); },
                     {name, reason, "multiples of 90"});
        expect_error([&, file = fixture(name)] { (void)read_video_frames(file, {0}); },
                     {name, reason});
    }
}

TEST(VideoRead, TellsTheRate) {
    EXPECT_DOUBLE_EQ(probe_video(fixture("h264.mp4")).frames_per_second, 10.0);
    EXPECT_DOUBLE_EQ(probe_video(fixture("vp9_odd.webm")).frames_per_second, 10.0);
    // Six frames in nine tenths of a second.
    EXPECT_NEAR(probe_video(fixture("vfr.mp4")).frames_per_second, 6.0 / 0.9, 1e-9);
}

TEST(VideoRead, WarnsOfHdrOncePerFile) {
    // Another test may have read the file already: a copy has a name of its own.
    const auto copy = write_bytes(std::filesystem::path(::testing::TempDir()) /
                                      ("hdr." + std::to_string(::getpid()) + ".mp4"),
                                  bytes_of(fixture("hevc_pq.mp4")));
    ::testing::internal::CaptureStderr();
    (void)read_video_frames(copy, {0, 1});
    (void)read_video_frames(copy, {2});
    (void)read_video_frames(fixture("h264.mp4"), {0});
    const std::string text = ::testing::internal::GetCapturedStderr();
    std::filesystem::remove(copy);
    const std::size_t found = text.find("HDR video (transfer function smpte2084)");
    ASSERT_NE(found, std::string::npos) << text;
    EXPECT_EQ(text.find("HDR", found + 1), std::string::npos) << text;
}

}  // namespace
}  // namespace matrix::media
