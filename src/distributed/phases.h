#pragma once

#include <chrono>
#include <string>

#include "distributed/rank_state.h"

namespace matrix::distributed {

/// Communicator::phases() from states that were read twice, as for describe(), the second time at
/// `now`: "ranks 0 and 2: gradients, step 12; rank 1: reading a clip, step 12 (no sign of life for
/// 8 s)". Ranks at the same share an entry; entries stand by their first rank.
[[nodiscard]] std::string describe_phases(const RankStates& before, const RankStates& after,
                                          std::chrono::system_clock::time_point now);

}  // namespace matrix::distributed
