#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <random>
#include <thread>
#include <utility>

#include "support/temp_directory.h"
#include "train/numbered_checkpoint.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// `checkpoint_child` in a process of its own.
class Child {
public:
    Child(const fs::path& run, std::int64_t first_step, const std::string& where,
          double fraction = 0)
        : output_(run / "output"), first_step_(first_step) {
        std::vector<std::string> arguments = {CHECKPOINT_CHILD, run.string(),
                                              std::to_string(first_step), where,
                                              std::to_string(fraction)};
        std::vector<char*> pointers;
        for (std::string& argument : arguments) {
            pointers.push_back(argument.data());
        }
        pointers.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_.c_str(),
                                           O_CREAT | O_TRUNC | O_WRONLY, 0600);
        EXPECT_EQ(
            ::posix_spawn(&process_, CHECKPOINT_CHILD, &actions, nullptr, pointers.data(), environ),
            0);
        ::posix_spawn_file_actions_destroy(&actions);
    }
    ~Child() {
        if (process_ > 0) {
            end(SIGKILL);
        }
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    /// The last step that it knows to be written, or -1.
    [[nodiscard]] std::int64_t reached() const {
        std::ifstream lines(output_);
        std::int64_t last = -1;
        for (std::string line; std::getline(lines, line);) {
            last = std::stoll(line);
        }
        return last;
    }
    /// Waits until it has done `writes` writes, and gives back how long the last took.
    [[nodiscard]] Clock::duration await(int writes) const {
        Clock::time_point before = Clock::now(), now = before;
        std::int64_t seen = -1;
        while (seen < first_step_ - 1 + writes && !has_ended()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            if (const std::int64_t step = reached(); step != seen) {
                seen = step;
                before = std::exchange(now, Clock::now());
            }
        }
        return now - before;
    }
    /// The signal that ended it.
    int end(int signal) {
        int status = 0;
        if (signal != 0) {
            ::kill(process_, signal);
        }
        ::waitpid(process_, &status, 0);
        process_ = -1;
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    }

private:
    [[nodiscard]] bool has_ended() const {
        siginfo_t found{};
        ::waitid(P_PID, static_cast<id_t>(process_), &found, WEXITED | WNOHANG | WNOWAIT);
        return found.si_pid != 0;
    }

    fs::path output_;
    std::int64_t first_step_;
    pid_t process_ = -1;
};

/// Everything that counts as a checkpoint is whole; returns the last one's step.
std::int64_t expect_sound(const fs::path& run) {
    const auto last = train::last_checkpoint(run);
    if (!last) {
        ADD_FAILURE() << "no checkpoint is left";
        return 0;
    }
    const std::int64_t step = test::expect_whole(*last);
    EXPECT_EQ(train::discard_checkpoints_after(run, step), 0);
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(run / "checkpoints")) {
        test::expect_whole(entry.path());
        ++count;
    }
    EXPECT_LE(count, 4u) << "two, the best, and one whose pruning was cut off";
    return step;
}

TEST(CheckpointKill, AProcessKilledAnywhereLeavesWholeCheckpoints) {
    const test::TempDirectory run;
    std::mt19937 draw(7);
    std::uniform_real_distribution<double> share(0, 1);
    std::int64_t last = 0;
    Clock::duration write{};
    for (int round = 0; round < 20; ++round) {
        if (round % 2 == 0) {
            Child child(run.path(), last + 1, "anywhere");
            write = child.await(2);
            std::this_thread::sleep_for(share(draw) * write);
            ASSERT_EQ(child.end(SIGKILL), SIGKILL) << "round " << round;
            EXPECT_GE(child.reached(), last + 2) << "round " << round;
            last = std::max(last, child.reached());
        } else {  // in its first write, which replaces the last checkpoint
            Child child(run.path(), last, "anywhere", 0.5);
            (void)child.await(0);
            std::this_thread::sleep_for(share(draw) * write);
            ASSERT_EQ(child.end(SIGKILL), SIGKILL) << "round " << round;
        }
        const std::int64_t step = expect_sound(run.path());
        EXPECT_GE(step, last) << "round " << round;
        last = step;
    }
}

TEST(CheckpointKill, AProcessKilledBeforeTheRenameLeavesTheOneBefore) {
    const test::TempDirectory run;
    Child child(run.path(), 1, "before_rename");
    EXPECT_EQ(child.end(0), SIGKILL);
    EXPECT_FALSE(fs::exists(train::checkpoint_directory(run.path(), 3)));
    EXPECT_EQ(expect_sound(run.path()), 2);
}

}  // namespace
}  // namespace matrix
