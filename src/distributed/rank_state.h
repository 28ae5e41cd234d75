#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace matrix::distributed {

/// What a rank writes to the store about itself, a few times a second.
struct RankState {
    std::int64_t beat = 0;    ///< grows with every writing: a sign of life
    std::int64_t joined = 0;  ///< exchanges joined so far
    bool left = false;        ///< the rank has left the group
    std::string phase;        ///< its last label

    [[nodiscard]] std::string encoded() const;
    [[nodiscard]] static RankState decoded(const std::string& text);
};

/// By rank; nothing for a rank that never arrived.
using RankStates = std::vector<std::optional<RankState>>;

/// An exchange that did not come about, as the rank sees it that says so.
struct FailedExchange {
    int rank = 0;
    std::string what;
    std::int64_t index = 0;  ///< its place among this rank's exchanges, from 1
    std::string cause;       ///< what the backend says
    std::chrono::milliseconds timeout{};
};

/// One line that names the ranks at fault, what they were last at, and who waits for them. `before`
/// and `after` were read so far apart that a living rank wrote in between. At fault are ranks
/// without a sign of life and ranks that have left; where there are none, those that did not join.
[[nodiscard]] std::string describe(const FailedExchange& failed, const RankStates& before,
                                   const RankStates& after);

/// "rank 2", "ranks 0, 1 and 3".
[[nodiscard]] std::string name_ranks(const std::vector<int>& ranks);

}  // namespace matrix::distributed
