#include "train/watch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <string>
#include <thread>

namespace matrix::train {
namespace {

TEST(RecentValues, KnowsAMedianOnceThereAreEnough) {
    RecentValues values;
    for (int i = 0; i < 19; ++i) {
        values.add(i < 7 ? 100.0 : 1.0);
        EXPECT_EQ(values.median(), std::nullopt) << i;
    }
    values.add(3.0);
    EXPECT_EQ(values.median(), 1.0);
}

TEST(RecentValues, ForgetsWhatIsLongAgo) {
    RecentValues values;
    for (int i = 0; i < 200; ++i) {
        values.add(7.0);
    }
    for (int i = 0; i < 50; ++i) {
        values.add(2.0);
        EXPECT_EQ(values.median(), 7.0) << i;
    }
    values.add(2.0);  // 51 of the last hundred
    EXPECT_EQ(values.median(), 2.0);
}

/// Losses around 0.1 that scatter by as much as timesteps do: 0.03 to 0.3.
double scattered(int step) {
    return 0.1 * std::pow(3.0, std::sin(2.4 * step));
}

TEST(LossWatch, IsSilentWhileNothingIsUsualYet) {
    LossWatch watch;
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(watch.look(i < 12 ? 0.001 : 1000.0), std::nullopt) << i;
    }
}

TEST(LossWatch, IsSilentOnScatter) {
    LossWatch watch;
    for (int i = 0; i < 500; ++i) {
        EXPECT_EQ(watch.look(scattered(i)), std::nullopt) << i;
    }
}

TEST(LossWatch, SpeaksOfASpike) {
    LossWatch watch;
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(watch.look(0.2), std::nullopt);
    }
    EXPECT_EQ(watch.look(0.99), std::nullopt) << "just below five times the median";
    EXPECT_EQ(watch.look(1.1), "the loss is 1.1, 5.5 times the median of the steps before");
    EXPECT_EQ(watch.look(0.2), std::nullopt);
}

TEST(LossWatch, LeavesValuesThatAreNotFiniteAlone) {
    LossWatch watch;
    for (int i = 0; i < 30; ++i) {
        for (const double value :
             {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
            EXPECT_EQ(watch.look(value), std::nullopt);
        }
        EXPECT_EQ(watch.look(0.2), std::nullopt);
    }
    EXPECT_NE(watch.look(1.1), std::nullopt) << "the median is that of the others";
}

TEST(StallWatch, ReportsAStepThatHangsAndNoOther) {
    std::mutex mutex;
    std::condition_variable called;
    int count = 0;
    const auto where = [&] {
        const std::lock_guard lock(mutex);
        ++count;
        called.notify_all();
        return std::string("rank 1: reading clips");
    };
    ::testing::internal::CaptureStderr();
    {
        StallWatch watch(where, {10.0, 0.5, 0.0});
        watch.begin("step 1");
        watch.end();
        watch.begin("step 2");
        std::unique_lock lock(mutex);
        EXPECT_TRUE(called.wait_for(lock, std::chrono::seconds(30), [&] { return count > 0; }));
        lock.unlock();
        std::this_thread::sleep_for(std::chrono::milliseconds(2500));  // would be told again
    }
    const std::string said = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(count, 1) << said;
    EXPECT_NE(said.find("step 2 has taken "), std::string::npos) << said;
    EXPECT_NE(said.find("s and is not done: rank 1: reading clips"), std::string::npos) << said;
}

// Each that waited for its thread's next look would take a second; all, longer than a test may.
TEST(StallWatch, EndsAtOnce) {
    for (int i = 0; i < 400; ++i) {
        StallWatch watch([] { return std::string(); });
        if (i % 2 == 1) {
            watch.begin("step 1");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // until it is looking
    }
}

}  // namespace
}  // namespace matrix::train
