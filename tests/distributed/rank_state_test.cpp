#include "distributed/rank_state.h"

#include <gmock/gmock.h>

namespace matrix::distributed {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const FailedExchange kFailed{0, "gradients, step 3", 5, "Connection closed\nat gloo",
                             std::chrono::milliseconds(2500)};

/// Ranks 0 to 2 have written again in between, and joined the exchange.
RankStates later(std::int64_t beat) {
    return {RankState{beat, 5, false, "a"}, RankState{beat, 5, false, "b"},
            RankState{beat, 5, false, "forward, step 3"}};
}

TEST(RankState, SurvivesTheStore) {
    const RankState state{7, 41, true, "gradients, step 12"};
    const RankState read = RankState::decoded(state.encoded());
    EXPECT_EQ(read.beat, 7);
    EXPECT_EQ(read.joined, 41);
    EXPECT_TRUE(read.left);
    EXPECT_EQ(read.phase, "gradients, step 12");
    EXPECT_EQ(RankState::decoded(RankState{}.encoded()).phase, "");
}

TEST(Describe, LateRank) {
    RankStates after = later(2);
    after[2]->joined = 4;
    EXPECT_THAT(describe(kFailed, later(1), after),
                AllOf(HasSubstr("\"gradients, step 3\""),
                      HasSubstr("rank 2 is running but did not join within 2.5 s and was last at "
                                "\"forward, step 3\""),
                      HasSubstr("(ranks 0 and 1 of 3 wait for it)")));
}

TEST(Describe, RankThatEndedIsBlamedBeforeLateOnes) {
    RankStates after = later(2);
    after[1]->joined = 4;
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

TEST(Describe, NobodyAtFaultShowsTheCause) {
    EXPECT_THAT(describe(kFailed, later(1), later(2)),
                AllOf(HasSubstr("rank 0 of 3 says \"Connection closed\""),
                      Not(HasSubstr("at gloo")), HasSubstr("network")));
}

}  // namespace
}  // namespace matrix::distributed
