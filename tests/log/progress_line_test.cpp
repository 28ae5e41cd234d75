#include "log/progress_line.h"

#include <gtest/gtest.h>

namespace matrix::log {
namespace {

ProgressState halfway() {
    return {"train", 450, 1000, 0, 300, "loss 0.93"};
}

TEST(ProgressText, HasPercentRateAndTimeLeft) {
    EXPECT_EQ(progress_text(halfway()), "train  45% 450/1000, 1.5/s, 06:07 left, loss 0.93");
}

TEST(ProgressText, AResumedRunsRateCountsWhatItDid) {
    ProgressState state = halfway();
    state.start = 400;
    EXPECT_EQ(progress_text(state), "train  45% 450/1000, 6.0 s each, 55:00 left, loss 0.93");
}

TEST(ProgressText, OnlyTheLastStepIsHundredPercent) {
    EXPECT_EQ(progress_text({"x", 999, 1000, 999, 1, ""}), "x  99% 999/1000");
    EXPECT_EQ(progress_text({"x", 1000, 1000, 0, 10, ""}), "x 100% 1000/1000, 100.0/s");
    EXPECT_EQ(progress_text({"x", 3, 0, 0, 1, ""}), "x 3, 3.0/s");
}

TEST(ProgressLine, NeverExceedsItsColumns) {
    for (int columns = 1; columns < 150; ++columns) {
        EXPECT_LE(progress_line(halfway(), columns).size(), static_cast<std::size_t>(columns));
    }
    EXPECT_EQ(progress_line(halfway(), 62),
              "train  45% [####------] 450/1000, 1.5/s, 06:07 left, loss 0.93");
    EXPECT_EQ(progress_line(halfway(), 20), "train  45% 450/1000,");
    EXPECT_EQ(progress_line(halfway(), 1000).find("----------------------]"), 30u);
}

TEST(ProgressLine, CutsBetweenCharactersAndDropsControls) {
    EXPECT_EQ(progress_line({"\xC3\xA4\xC3\xB6\xC3\xBC", 1, 0, 0, 0, ""}, 2), "\xC3\xA4\xC3\xB6");
    EXPECT_EQ(progress_line({"a\n\x1b[2Jb", 1, 0, 0, 0, ""}, 80), "a[2Jb 1");
}

TEST(Duration, FitsItsSize) {
    EXPECT_EQ(duration_text(0), "00:00");
    EXPECT_EQ(duration_text(423.4), "07:03");
    EXPECT_EQ(duration_text(3600 + 423), "1:07:03");
    EXPECT_EQ(duration_text(2 * 86400 + 3 * 3600 + 240), "2d 03:04");
    EXPECT_EQ(duration_text(-1), "00:00");
    EXPECT_EQ(duration_text(1e300), "11574074d 01:46");
}

}  // namespace
}  // namespace matrix::log
