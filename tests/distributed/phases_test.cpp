#include "distributed/phases.h"

#include <gtest/gtest.h>

#include <optional>

namespace matrix::distributed {
namespace {

using std::chrono::milliseconds;

const std::chrono::system_clock::time_point kNow{std::chrono::hours(1)};

RankState state_of(std::int64_t beat, const std::string& phase,
                   milliseconds age = milliseconds(0)) {
    return {beat, false, kNow - age, phase, {}};
}

TEST(Phases, RanksAtTheSameShareAnEntry) {
    const RankStates before{state_of(1, "a"), state_of(1, "b"), state_of(1, "a"), state_of(1, "a")};
    const RankStates after{state_of(2, "gradients, step 12"), state_of(2, "reading a clip"),
                           state_of(2, "gradients, step 12"), state_of(2, "gradients, step 12")};
    EXPECT_EQ(describe_phases(before, after, kNow),
              "ranks 0, 2 and 3: gradients, step 12; rank 1: reading a clip");
}

TEST(Phases, SilenceHasALength) {
    const RankStates states{state_of(1, "a", milliseconds(8400)),
                            state_of(1, "a", milliseconds(-50))};
    EXPECT_EQ(describe_phases(states, states, kNow),
              "rank 0: a (no sign of life for 8 s); rank 1: a (no sign of life for 1 s)");
    EXPECT_EQ(describe_phases(RankStates(2), states, kNow), "ranks 0 and 1: a");
}

TEST(Phases, RanksThatAreNotThere) {
    RankStates states{state_of(1, "end"), std::nullopt};
    states[0]->left = true;
    EXPECT_EQ(describe_phases(states, states, kNow),
              "rank 0: end (has left); rank 1: never arrived");
}

}  // namespace
}  // namespace matrix::distributed
