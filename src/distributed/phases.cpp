#include "distributed/phases.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "distributed/messages.h"

namespace matrix::distributed {
namespace {

std::string place_of(const std::optional<RankState>& before, const std::optional<RankState>& after,
                     std::chrono::system_clock::time_point now) {
    if (!after) {
        return "never arrived";
    }
    if (after->left) {
        return after->phase + " (has left)";
    }
    if (before && before->beat == after->beat) {
        using std::chrono::seconds;
        // The clocks of two machines may differ.
        const seconds silence =
            std::max(std::chrono::duration_cast<seconds>(now - after->written), seconds(1));
        return after->phase + " (no sign of life for " + std::to_string(silence.count()) + " s)";
    }
    return after->phase;
}

}  // namespace

std::string describe_phases(const RankStates& before, const RankStates& after,
                            std::chrono::system_clock::time_point now) {
    std::vector<std::pair<std::string, std::vector<int>>> places;
    for (int rank = 0; rank < static_cast<int>(after.size()); ++rank) {
        const std::string place = place_of(before[rank], after[rank], now);
        const auto known = std::find_if(places.begin(), places.end(),
                                        [&](const auto& other) { return other.first == place; });
        if (known == places.end()) {
            places.push_back({place, {rank}});
        } else {
            known->second.push_back(rank);
        }
    }
    std::string text;
    for (const auto& [place, ranks] : places) {
        text += (text.empty() ? "" : "; ") + name_ranks(ranks) + ": " + place;
    }
    return text;
}

}  // namespace matrix::distributed
