#include "matrix/core/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace matrix {
namespace {

// Each in a process of its own: the flag cannot be taken back.
TEST(StopSignals, TheFirstSetsAFlag) {
    EXPECT_EXIT(
        {
            install_stop_signals();
            const bool before = stop_signal().has_value();
            ::raise(SIGTERM);
            ::_exit(!before && stop_signal() == SIGTERM ? 7 : 1);
        },
        ::testing::ExitedWithCode(7), "");
}

TEST(StopSignals, TheSecondEndsTheProcess) {
    EXPECT_EXIT(
        {
            install_stop_signals();
            ::raise(SIGINT);
            ::raise(SIGTERM);
            ::_exit(1);
        },
        ::testing::ExitedWithCode(128 + SIGTERM), "");
}

TEST(StopSignals, SlurmsWarningIsOne) {
    EXPECT_EXIT(
        {
            install_stop_signals();
            ::raise(SIGUSR1);
            ::_exit(stop_signal() == SIGUSR1 ? 7 : 1);
        },
        ::testing::ExitedWithCode(7), "");
}

TEST(StopSignals, AnEchoIsNoSecondOne) {
    EXPECT_EXIT(
        {
            install_stop_signals(std::chrono::hours(1));
            ::raise(SIGUSR1);
            ::raise(SIGTERM);
            ::raise(SIGUSR1);
            ::_exit(stop_signal() == SIGUSR1 ? 7 : 1);
        },
        ::testing::ExitedWithCode(7), "");
}

TEST(StopSignals, AnEchoEnds) {
    EXPECT_EXIT(
        {
            install_stop_signals(std::chrono::milliseconds(1));
            ::raise(SIGTERM);
            ::usleep(20'000);
            ::raise(SIGUSR1);
            ::_exit(1);
        },
        ::testing::ExitedWithCode(128 + SIGUSR1), "");
}

}  // namespace
}  // namespace matrix
