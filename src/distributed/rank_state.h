#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace matrix::distributed {

/// Ranks of the run that exchange with each other.
struct Group {
    std::string name;        ///< unique in the run; empty: the group of all its ranks
    std::vector<int> ranks;  ///< of the run, by the rank in the group
};

/// What a rank writes to the store about itself, a few times a second.
struct RankState {
    struct InGroup {
        std::int64_t joined = 0;  ///< exchanges joined so far
        bool left = false;
    };

    std::int64_t beat = 0;                          ///< grows with every writing: a sign of life
    bool left = false;                              ///< the rank has left the run
    std::chrono::system_clock::time_point written;  ///< by the rank's clock, in milliseconds
    std::string phase;                              ///< its last label, one line
    std::map<std::string, InGroup> groups;

    [[nodiscard]] std::string encoded() const;
    [[nodiscard]] static RankState decoded(const std::string& text);
};

/// By rank; nothing for a rank that never arrived.
using RankStates = std::vector<std::optional<RankState>>;

/// An exchange that did not come about, as the rank sees it that says so.
struct FailedExchange {
    int rank = 0;  ///< of the run
    std::shared_ptr<const Group> group;
    std::string what;
    std::int64_t index = 0;  ///< its place among this rank's exchanges in the group, from 1
    std::string cause;       ///< what the backend says
    std::chrono::milliseconds timeout{};
};

/// One line that names the ranks of the exchange's group that are at fault, what they were last at,
/// and who waits for them. `before` and `after` are of all ranks of the run, read so far apart that
/// a living rank wrote in between. At fault are ranks without a sign of life and ranks that have
/// left; where there are none, those that did not join.
[[nodiscard]] std::string describe(const FailedExchange& failed, const RankStates& before,
                                   const RankStates& after);

}  // namespace matrix::distributed
