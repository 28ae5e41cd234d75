#include "matrix/data_source/frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/errors.h"

namespace matrix::data_source {
namespace {

using data_cache::DataConfig;
using test::expect_error;
using testing::ElementsAre;

media::VideoInfo video(std::int64_t frames, double fps) {
    media::VideoInfo info{.width_px = 48,
                          .height_px = 32,
                          .num_frames = frames,
                          .frames_per_second = fps,
                          .timestamps_seconds = {}};
    for (std::int64_t i = 0; i < frames; ++i) {
        info.timestamps_seconds.push_back(static_cast<double>(i) / fps);
    }
    return info;
}

std::vector<std::int64_t> indices(const DataConfig& config, const media::VideoInfo& info) {
    return frame_indices(config, info, "v.mp4");
}

TEST(FrameIndices, FollowTheSampling) {
    DataConfig config;
    config.frames = 5;
    EXPECT_THAT(indices(config, video(7, 10)), ElementsAre(0, 1, 2, 3, 4));
    config.sampling = "uniform";
    EXPECT_THAT(indices(config, video(7, 10)), ElementsAre(0, 1, 2, 4, 5));
    EXPECT_THAT(indices(config, video(5, 10)), ElementsAre(0, 1, 2, 3, 4));
    config.sampling = "stride";
    config.stride = 3;
    EXPECT_THAT(indices(config, video(13, 10)), ElementsAre(0, 3, 6, 9, 12));
}

TEST(FrameIndices, NameBothNumbersWhereFramesAreMissing) {
    DataConfig config;
    config.frames = 5;
    expect_error([&] { (void)indices(config, video(4, 10)); },
                 {"v.mp4", "has 4 frames", "5 are needed"});
    config.sampling = "uniform";
    expect_error([&] { (void)indices(config, video(4, 10)); }, {"has 4 frames", "5 are needed"});
    config.sampling = "stride";
    config.stride = 3;
    expect_error([&] { (void)indices(config, video(12, 10)); },
                 {"has 12 frames", "13 are needed", "data.frames = 5", "data.stride = 3"});
}

TEST(FrameIndices, TakeTheNearestFrameInTime) {
    DataConfig config;
    config.frames = 5;
    config.fps = 4.0;  // 0, 0.25, 0.5, 0.75, 1: ties between 0.2 and 0.3, and between 0.7 and 0.8
    EXPECT_THAT(indices(config, video(20, 10)), ElementsAre(0, 2, 5, 7, 10));
    config.fps = 20.0;  // above the video's rate: frames repeat, a tie takes the earlier
    EXPECT_THAT(indices(config, video(20, 10)), ElementsAre(0, 0, 1, 1, 2));
}

// Against a search over all frames in exact arithmetic (times are multiples of 1/3600 s).
TEST(FrameIndices, AgreeWithAnExactSearch) {
    for (const std::int64_t rate : {8, 15, 24, 25, 30, 60}) {
        for (const std::int64_t fps : {5, 6, 8, 10, 12, 16, 24, 48}) {
            DataConfig config;
            config.frames = 49;
            config.fps = static_cast<double>(fps);
            const std::int64_t count = 48 * rate / fps + 49;
            const auto found = indices(config, video(count, static_cast<double>(rate)));
            for (std::int64_t i = 0; i < config.frames; ++i) {
                std::int64_t best = 0;
                for (std::int64_t j = 1; j < count; ++j) {
                    // |j / rate - i / fps| times rate * fps
                    if (std::abs(j * fps - i * rate) < std::abs(best * fps - i * rate)) {
                        best = j;
                    }
                }
                ASSERT_EQ(found[static_cast<std::size_t>(i)], best)
                    << rate << " to " << fps << ", " << i;
            }
        }
    }
}

TEST(FrameIndices, RefuseAClipThatOutlastsItsVideo) {
    DataConfig config;
    config.frames = 5;
    config.fps = 2.0;
    expect_error([&] { (void)indices(config, video(10, 10)); },
                 {"v.mp4", "1.00 s", "gives 3 frames", "data.frames is 5"});
}

TEST(FrameIndices, StandEqualTimeStamps) {
    DataConfig config;
    config.frames = 5;
    config.fps = 10.0;
    media::VideoInfo info = video(8, 10);
    info.timestamps_seconds[2] = info.timestamps_seconds[1];
    EXPECT_THAT(indices(config, info), ElementsAre(0, 1, 1, 3, 4));
}

}  // namespace
}  // namespace matrix::data_source
