#include "distributed/thread_group.h"

#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>

#include "distributed/collective_checks.h"
#include "distributed/exchange_checks.h"
#include "support/errors.h"

namespace matrix::test {
namespace {

using distributed::Communicator;
using distributed::ReduceOp;

class ThreadRanks : public ::testing::TestWithParam<int> {};

TEST_P(ThreadRanks, BehaveAsProcesses) {
    run_in_threads(GetParam(), [](Communicator& group) {
        check_exchanges(group);
        check_collectives(group);
    });
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadRanks, ::testing::Values(1, 2, 4));

TEST(ThreadGroup, EveryRankRunsOnce) {
    std::mutex mutex;
    std::multiset<int> ranks;
    run_in_threads(3, [&](Communicator& group) {
        EXPECT_EQ(group.world_size(), 3);
        const std::lock_guard lock(mutex);
        ranks.insert(group.rank());
    });
    EXPECT_EQ(ranks, (std::multiset<int>{0, 1, 2}));
}

TEST(ThreadGroup, ErrorOfARankComesOutAndTheOthersNameIt) {
    std::atomic<int> num_told = 0;
    expect_error<UsageError>(
        [&] {
            run_in_threads(3, [&](Communicator& group) {
                if (group.rank() == 1) {
                    group.set_phase("reading a clip, step 2");
                    throw UsageError("no such clip");
                }
                expect_error<RunError>([&] { group.barrier("gradients, step 2"); },
                                       {"rank 1 has left the group", "reading a clip, step 2"});
                ++num_told;
            });
        },
        {"no such clip"});
    EXPECT_EQ(num_told, 2);
}

TEST(ThreadGroup, LateRankOfASubgroupIsNamed) {
    std::mutex mutex;
    std::condition_variable wake;
    int num_told = 0;
    run_in_threads(
        4,
        [&](Communicator& group) {
            const int first = group.rank() / 2 * 2;
            const auto pair = group.subgroup({first, first + 1}, "pair");
            if (group.rank() == 3) {
                group.set_phase("reading a clip, step 2");
                std::unique_lock lock(mutex);
                wake.wait(lock, [&] { return num_told == 3; });
                return;
            }
            const std::string message = expect_error<RunError>([&] {
                pair->barrier("heads, step 2");
                group.barrier("gradients, step 2");
            });
            EXPECT_THAT(message, ::testing::HasSubstr("rank 3 is running but did not join"));
            const std::lock_guard lock(mutex);
            ++num_told;
            wake.notify_all();
        },
        std::chrono::milliseconds(200));
    EXPECT_EQ(num_told, 3);
}

TEST(ThreadGroup, PhasesSayWhereEveryRankIs) {
    run_in_threads(3, [](Communicator& group) {
        group.barrier("start");
        if (group.rank() == 1) {
            group.set_phase("reading a clip");
        }
        group.subgroup({0, 1, 2}, "all")->barrier(group.rank() == 1 ? "reading a clip" : "step 1");
        if (group.rank() == 2) {
            EXPECT_EQ(group.phases(), "ranks 0 and 2: step 1; rank 1: reading a clip");
        }
        group.barrier(group.rank() == 1 ? "reading a clip" : "step 1");
    });
}

TEST(ThreadGroup, RefusesDifferentExchangesAtOnePlace) {
    EXPECT_THROW(run_in_threads(2,
                                [](Communicator& group) {
                                    at::Tensor tensor = at::ones({2 + group.rank()});
                                    group.all_reduce(tensor, ReduceOp::kSum, "sum")->wait();
                                }),
                 c10::Error);
}

}  // namespace
}  // namespace matrix::test
