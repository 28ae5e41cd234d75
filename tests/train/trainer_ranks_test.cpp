#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "distributed/thread_group.h"
#include "matrix/core/signals.h"
#include "matrix/tensor_io/safetensors.h"
#include "matrix/train/checkpoint.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "train/trainer_process.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;
using test::last_state;
using test::metrics;
using test::Process;
using test::RollingBack;

/// Runs as two ranks, each with one sample of a step's two; `prepare` gets each rank's process, and
/// `stopped` what a signal makes each throw. Rank 1 is given a directory of its own, to see that it
/// writes nothing.
void run_two(const fs::path& output, const fs::path& others,
             const std::function<void(Process&, int rank)>& prepare = {},
             const std::optional<fs::path>& resume = std::nullopt,
             const std::function<void(const Stopped&)>& stopped = {}) {
    test::run_in_threads(2, [&](distributed::Communicator& all) {
        Process process;
        process.settings.train.gradient_accumulation = 1;
        process.settings.verify_every_steps = 2;
        if (prepare) {
            prepare(process, all.rank());
        }
        try {
            process.run(all.rank() == 0 ? output : others, resume, {all});
        } catch (const Stopped& signal) {
            ASSERT_TRUE(stopped);
            stopped(signal);
        }
    });
}

/// Equal but for the order of float32 sums.
void expect_same_course(const fs::path& a, const fs::path& b) {
    const auto records = metrics(a), expected = metrics(b);
    ASSERT_EQ(records.size(), expected.size());
    for (std::size_t i = 0; i < records.size(); ++i) {
        ASSERT_EQ(records[i].size(), expected[i].size());
        for (const auto& [name, value] : expected[i].items()) {
            if (name.starts_with("loss")) {
                EXPECT_NEAR(records[i][name], value, 1e-6 * std::abs(value.get<double>())) << name;
            } else if (name != "grad_norm") {
                EXPECT_EQ(records[i][name], value) << name;
            }
        }
    }
    EXPECT_EQ(train::last_checkpoint(a)->filename(), train::last_checkpoint(b)->filename());
    const fs::path name = "adapter.safetensors";
    const tensor_io::TensorMap x =
        tensor_io::SafetensorsFile(*train::last_checkpoint(a) / name).all();
    for (const auto& [key, tensor] :
         tensor_io::SafetensorsFile(*train::last_checkpoint(b) / name).all()) {
        EXPECT_LE((x.at(key) - tensor).norm().item<double>(), 2e-6 * tensor.norm().item<double>())
            << key;
    }
}

TEST(Trainer, OfTwoRanksIsThatOfOneAndRankZeroWrites) {
    const test::TempDirectory one, two, others;
    Process().run(one.path());
    run_two(two.path(), others.path());
    expect_same_course(two.path(), one.path());
    EXPECT_EQ(two.names(), one.names());
    EXPECT_TRUE(others.names().empty());
    for (const char* field : {"step", "next_sample", "global_batch", "skipped"}) {
        EXPECT_EQ(last_state(two.path())[field], last_state(one.path())[field]) << field;
    }
    // Rank 0 alone reads a checkpoint, so that rank 1 has what is in it from nowhere else.
    run_two(two.path(), others.path(), {}, two / "checkpoints" / "step-00000004");
    expect_same_course(two.path(), one.path());
    EXPECT_TRUE(others.names().empty());
}

TEST(Trainer, RanksStopTogetherAndNameTheClips) {
    using Numbers = std::set<std::uint64_t>;
    for (const Numbers& bad : {Numbers{2}, Numbers{3}, Numbers{2, 3}}) {  // a rank's of step 2 each
        const test::TempDirectory run, others;
        std::mutex mutex;
        std::set<std::string> messages;
        test::run_in_threads(2, [&](distributed::Communicator& all) {
            Process process;
            process.settings.train.gradient_accumulation = 1;
            process.clips.numbers_with_nan = bad;
            const fs::path& output = all.rank() == 0 ? run.path() : others.path();
            const std::string message =
                test::expect_error([&] { process.run(output, std::nullopt, {all}); },
                                   {"step 2: loss_denoise is not finite; clips: clip "});
            const std::lock_guard lock(mutex);
            messages.insert(message);
        });
        ASSERT_EQ(messages.size(), 1u) << "all say the same";
        for (const std::uint64_t number : {2, 3}) {
            EXPECT_EQ(messages.begin()->find("(sample " + std::to_string(number) + ", timestep ") !=
                          std::string::npos,
                      bad.count(number) != 0)
                << *messages.begin();
        }
    }
}

// A launcher ends the other processes as soon as one has left.
TEST(TrainerDeathTest, RanksLeaveAfterASignalOnceTheCheckpointIsThere) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const test::TempDirectory run, others;
    const auto stop_both = [&] {
        install_stop_signals();
        std::atomic<int> sound = 0;
        run_two(
            run.path(), others.path(),
            [](Process& process, int rank) {
                process.watcher.after = [rank](std::int64_t step) {
                    if (step == 2 && rank == 1) {
                        ::raise(SIGUSR1);
                    }
                };
            },
            std::nullopt,
            [&](const Stopped& stopped) {
                sound += stopped.signal == SIGUSR1 &&
                         fs::exists(run / "checkpoints" / "step-00000003" / "state.json");
            });
        return sound == 2;
    };
    EXPECT_EXIT(::_exit(stop_both() ? 7 : 1), ::testing::ExitedWithCode(7), "");
}

TEST(Trainer, RanksRollBackTogether) {
    const test::TempDirectory one, two, others;
    RollingBack({7}).run(one.path());
    run_two(two.path(), others.path(), [](Process& process, int) {
        process.settings.train.non_finite = "rollback";
        process.clips.numbers_with_nan = {7};
    });
    expect_same_course(two.path(), one.path());
    EXPECT_EQ(last_state(two.path())["skipped"], nlohmann::json::parse("[[6, 8]]"));
}

// Ranks begin with rank 0's tensors, whatever theirs were.
TEST(Trainer, RanksTakeTheTensorsOfRankZero) {
    const test::TempDirectory one, two, others;
    Process().run(one.path());
    run_two(two.path(), others.path(), [](Process& process, int rank) {
        for (const auto& [name, tensor] : process.trajectory.trained) {
            tensor.detach().add_(rank);
        }
    });
    expect_same_course(two.path(), one.path());
}

}  // namespace
}  // namespace matrix
