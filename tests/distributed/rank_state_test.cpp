#include "distributed/rank_state.h"

#include <gmock/gmock.h>

#include <utility>

namespace matrix::distributed {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

FailedExchange failed_in(Group group) {
    return {0,
            std::make_shared<Group>(std::move(group)),
            "gradients, step 3",
            5,
            "Connection closed\nat gloo",
            std::chrono::milliseconds(2500)};
}

const FailedExchange kFailed = failed_in({"", {0, 1, 2}});
const FailedExchange kFailedPart = failed_in({"heads", {0, 2}});

const std::chrono::system_clock::time_point kWritten{std::chrono::milliseconds(1700000000123)};

RankState state_of(std::int64_t beat, const std::string& phase) {
    return {beat, false, {}, phase, {{"", {5, false}}, {"heads", {5, false}}}};
}

/// Ranks 0 to 2 have written again in between, and joined the exchange.
RankStates later(std::int64_t beat) {
    return {state_of(beat, "a"), state_of(beat, "b"), state_of(beat, "forward, step 3")};
}

TEST(RankState, SurvivesTheStore) {
    const RankState state{
        7, true, kWritten, "gradients, step 12", {{"", {41, false}}, {"1:a b[0,2]", {3, true}}}};
    const RankState read = RankState::decoded(state.encoded());
    EXPECT_EQ(read.beat, 7);
    EXPECT_TRUE(read.left);
    EXPECT_EQ(read.written, kWritten);
    EXPECT_EQ(read.phase, "gradients, step 12");
    ASSERT_EQ(read.groups.size(), 2);
    EXPECT_EQ(read.groups.at("").joined, 41);
    EXPECT_FALSE(read.groups.at("").left);
    EXPECT_EQ(read.groups.at("1:a b[0,2]").joined, 3);
    EXPECT_TRUE(read.groups.at("1:a b[0,2]").left);
    EXPECT_EQ(RankState::decoded(RankState{}.encoded()).phase, "");
}

TEST(Describe, LateRank) {
    RankStates after = later(2);
    after[2]->groups[""].joined = 4;
    EXPECT_THAT(describe(kFailed, later(1), after),
                AllOf(HasSubstr("\"gradients, step 3\""),
                      HasSubstr("rank 2 is running but did not join within 2.5 s and was last at "
                                "\"forward, step 3\""),
                      HasSubstr("(ranks 0 and 1 of 3 wait for it)")));
}

TEST(Describe, RankThatEndedIsBlamedBeforeLateOnes) {
    RankStates after = later(2);
    after[1]->groups[""].joined = 4;
    after[2]->beat = 1;
    EXPECT_THAT(describe(kFailed, later(1), after),
                AllOf(HasSubstr("rank 2 gives no sign of life"), Not(HasSubstr("rank 1")),
                      HasSubstr("(rank 0 of 3 waits for it)")));
}

TEST(Describe, RankThatLeft) {
    RankStates after = later(2);
    after[1]->left = true;
    EXPECT_THAT(describe(kFailed, later(1), after),
                HasSubstr("rank 1 has left the group and was last at \"b\""));
}

TEST(Describe, OnlyMembersOfTheGroup) {
    RankStates after = later(2);
    after[1]->beat = 1;
    after[1]->groups["heads"].joined = 0;
    after[2]->groups["heads"].joined = 4;
    EXPECT_THAT(
        describe(kFailedPart, later(1), after),
        AllOf(HasSubstr("\"gradients, step 3\" of ranks 0 and 2 failed: rank 2 is running but"),
              Not(HasSubstr("rank 1")), HasSubstr("(rank 0 of 3 waits for it)")));
}

TEST(Describe, OnlyExchangesOfTheGroupCount) {
    RankStates after = later(2);
    after[2]->groups[""].joined = 4;
    EXPECT_THAT(describe(kFailedPart, later(1), after), HasSubstr("every rank has joined it"));
    after[2]->groups.erase("heads");
    EXPECT_THAT(describe(kFailedPart, later(1), after), HasSubstr("rank 2 is running but"));
    after[2]->groups["heads"] = {5, true};
    EXPECT_THAT(describe(kFailedPart, later(1), after), HasSubstr("rank 2 has left the group"));
}

TEST(Describe, NobodyAtFaultShowsTheCause) {
    EXPECT_THAT(describe(kFailed, later(1), later(2)),
                AllOf(HasSubstr("rank 0 of 3 says \"Connection closed\""),
                      Not(HasSubstr("at gloo")), HasSubstr("network")));
}

}  // namespace
}  // namespace matrix::distributed
