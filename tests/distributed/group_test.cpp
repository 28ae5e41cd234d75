// Groups of real processes over Gloo.

#include <gmock/gmock.h>
#include <signal.h>

#include <atomic>
#include <future>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "distributed/process_group.h"

namespace matrix::test {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

void expect_done(const std::map<int, RankResult>& results) {
    for (const auto& [rank, result] : results) {
        EXPECT_EQ(result.exit_code, 0) << "rank " << rank << ": " << result.output;
        EXPECT_FALSE(result.was_killed_here) << "rank " << rank;
        EXPECT_THAT(result.output, HasSubstr("done"));
    }
}

/// One error line, the last one, with exit code 1.
void expect_failure(const RankResult& result, const ::testing::Matcher<std::string>& message) {
    EXPECT_EQ(result.exit_code, 1) << result.output;
    EXPECT_FALSE(result.was_killed_here) << result.output;
    const std::size_t error = result.output.find("error: ");
    ASSERT_NE(error, std::string::npos) << result.output;
    EXPECT_EQ(result.output.find('\n', error) + 1, result.output.size()) << result.output;
    EXPECT_THAT(result.output.substr(error), message);
}

struct Start {
    int world_size;
    std::vector<int> ranks{};    ///< all, where empty
    std::vector<int> awaited{};  ///< likewise
};

struct NamedRun {
    std::string name;
    std::string scenario;
    Start start;
};

/// Most of a scenario's time goes into waiting: four at a time run side by side, before the tests,
/// of which each looks at one.
class Group : public ::testing::Test {
protected:
    using Results = std::map<int, RankResult>;

    static void SetUpTestSuite() {
        const std::vector<NamedRun> runs{
            {"hang", "hang", {3, {}, {0, 2}}},
            {"pair-late", "pair-late", {4, {}, {0, 1, 2}}},
            {"slow-decision", "slow-decision", {3}},
            {"stopped-host", "stopped-host", {2, {}, {1}}},
            {"stopped", "stopped", {3, {}, {0, 2}}},
            {"killed", "killed", {3}},
            {"killed-host", "killed-host", {2}},
            {"pair-killed", "pair-killed", {4}},
            {"without-2", "arrive", {3, {0, 1}}},
            {"without-0", "arrive", {2, {1}}},
            {"fault", "fault", {3}},
            {"two", "operations", {2}},
            {"four", "operations", {4}},
            {"uneven", "uneven", {4}},
            {"patient", "patient", {4}},
            {"killed-before-meeting", "killed-before-meeting", {3}},
            {"leave-early", "leave-early", {3}},
            {"parts-leave-early", "parts-leave-early", {3}},
        };
        std::vector<Results> results(runs.size());
        std::atomic<std::size_t> next{0};
        const auto work = [&] {
            for (std::size_t i = next++; i < runs.size(); i = next++) {
                const Start& start = runs[i].start;
                results[i] =
                    run_ranks(runs[i].scenario, start.world_size, start.ranks, start.awaited);
            }
        };
        std::vector<std::future<void>> workers;
        for (int i = 0; i < 4; ++i) {
            workers.push_back(std::async(std::launch::async, work));
        }
        for (std::future<void>& worker : workers) {
            worker.get();
        }
        for (std::size_t i = 0; i < runs.size(); ++i) {
            all_results[runs[i].name] = results[i];
        }
    }
    static void TearDownTestSuite() { all_results.clear(); }

    static const Results& results_of(const std::string& name) { return all_results.at(name); }

private:
    inline static std::map<std::string, Results> all_results;
};

TEST_F(Group, EveryOperationOnTwoRanks) {
    expect_done(results_of("two"));
}

TEST_F(Group, EveryOperationOnFourRanks) {
    expect_done(results_of("four"));
}

TEST_F(Group, RanksMayComeAtDifferentTimes) {
    expect_done(results_of("uneven"));
}

TEST_F(Group, MeetingsWaitForRanksThatLive) {
    expect_done(results_of("patient"));
}

TEST_F(Group, RankKilledBeforeAMeetingIsNamed) {
    const auto& results = results_of("killed-before-meeting");
    EXPECT_EQ(results.at(2).signal, SIGKILL);
    for (const int rank : {0, 1}) {
        expect_failure(results.at(rank), AllOf(HasSubstr("\"sampling, step 2\" failed"),
                                               HasSubstr("rank 2 gives no sign of life"),
                                               HasSubstr("making a video")));
    }
}

TEST_F(Group, HostOfTheStoreLeavesLast) {
    expect_done(results_of("leave-early"));
}

TEST_F(Group, SubgroupsMayBeLeftEarly) {
    expect_done(results_of("parts-leave-early"));
}

TEST_F(Group, MissingRankIsNamedOnArrival) {
    const auto& results = results_of("without-2");
    for (const int rank : {0, 1}) {
        expect_failure(results.at(rank),
                       AllOf(HasSubstr("rank 2 of 3 did not arrive"), HasSubstr("within 8 s"),
                             HasSubstr("ranks 0 and 1 waited")));
    }
}

TEST_F(Group, MissingHostIsNamedOnArrival) {
    const auto& results = results_of("without-0");
    expect_failure(results.at(1), AllOf(HasSubstr("rank 0 of 2 did not open"),
                                        HasSubstr("within 8 s"), HasSubstr("rank 1 waits")));
}

TEST_F(Group, LateRankIsNamedWithWhatItWasAt) {
    const auto& results = results_of("hang");
    EXPECT_TRUE(results.at(1).was_killed_here);
    for (const int rank : {0, 2}) {
        expect_failure(
            results.at(rank),
            AllOf(HasSubstr("\"gradients, step 2\" failed"),
                  HasSubstr("rank 1 is running but did not join within 8 s and was last at "
                            "\"reading a clip, step 2\""),
                  HasSubstr("ranks 0 and 2 of 3 wait")));
    }
}

TEST_F(Group, KilledRankIsNamed) {
    const auto& results = results_of("killed");
    EXPECT_EQ(results.at(2).signal, SIGKILL);
    for (const int rank : {0, 1}) {
        expect_failure(results.at(rank), AllOf(HasSubstr("rank 2 gives no sign of life"),
                                               HasSubstr("reading a clip, step 2"),
                                               HasSubstr("ranks 0 and 1 of 3 wait")));
    }
}

TEST_F(Group, KilledHostIsNamed) {
    const auto& results = results_of("killed-host");
    EXPECT_EQ(results.at(0).signal, SIGKILL);
    expect_failure(results.at(1), AllOf(HasSubstr("\"gradients, step 2\" failed on rank 1"),
                                        HasSubstr("rank 0, which hosts the group's store")));
}

TEST_F(Group, StoppedHostDoesNotHangTheOthers) {
    const auto& results = results_of("stopped-host");
    EXPECT_TRUE(results.at(0).was_killed_here);
    expect_failure(results.at(1), HasSubstr("rank 0, which hosts the group's store"));
}

TEST_F(Group, PhasesSayWhereEveryRankIs) {
    const auto& results = results_of("stopped");
    EXPECT_TRUE(results.at(1).was_killed_here);
    EXPECT_THAT(results.at(0).output,
                ContainsRegex("phases: ranks 0 and 2: gradients, step 2; rank 1: reading a clip, "
                              "step 2 \\(no sign of life for [0-9]+ s\\)\n"));
    EXPECT_THAT(
        results_of("hang").at(0).output,
        HasSubstr("phases: ranks 0 and 2: gradients, step 2; rank 1: reading a clip, step 2\n"));
    EXPECT_THAT(results_of("stopped-host").at(1).output,
                ContainsRegex("phases: rank 1: gradients, step 2; the others are unknown: rank 0, "
                              "which hosts the group's store at [0-9.:]+, has ended or does not "
                              "answer \\(no answer\\)\n"));
    for (const int rank : {0, 2}) {
        expect_failure(results.at(rank), HasSubstr("rank 1 gives no sign of life"));
    }
}

TEST_F(Group, RankThatLeftWithAnErrorIsNamed) {
    const auto& results = results_of("fault");
    expect_failure(results.at(1), HasSubstr("disk full"));
    for (const int rank : {0, 2}) {
        expect_failure(results.at(rank), AllOf(HasSubstr("rank 1 has left the group"),
                                               HasSubstr("reading a clip, step 2")));
    }
}

TEST_F(Group, SlowDecisionIsNamed) {
    for (const auto& [rank, result] : results_of("slow-decision")) {
        expect_failure(
            result,
            AllOf(HasSubstr("\"checkpoint, step 2\" failed: rank 0 is running but "
                            "did not join within 8 s"),
                  HasSubstr("\"writing the checkpoint,\""), HasSubstr("ranks 1 and 2 of 3 wait")));
    }
}

TEST_F(Group, RankKilledWhileASubgroupWaitsIsNamed) {
    const auto& results = results_of("pair-killed");
    EXPECT_EQ(results.at(3).signal, SIGKILL);
    for (const int rank : {0, 1, 2}) {
        expect_failure(results.at(rank),
                       AllOf(HasSubstr("\"heads, step 2\" of ranks 2 and 3 failed: rank 3 gives no "
                                       "sign of life"),
                             HasSubstr("reading a clip, step 2"), HasSubstr("rank 2 of 4 waits")));
    }
}

TEST_F(Group, LateRankOfASubgroupIsNamed) {
    const auto& results = results_of("pair-late");
    EXPECT_TRUE(results.at(3).was_killed_here);
    for (const int rank : {0, 1, 2}) {
        expect_failure(results.at(rank),
                       AllOf(HasSubstr("\"heads, step 2\" of ranks 2 and 3 failed: rank 3 is "
                                       "running but did not join within 8 s"),
                             HasSubstr("reading a clip, step 2"), HasSubstr("rank 2 of 4 waits")));
    }
}

}  // namespace
}  // namespace matrix::test
