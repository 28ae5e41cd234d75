#include "distributed/rank_state.h"

#include <sstream>

namespace matrix::distributed {
namespace {

std::string first_line(const std::string& text) {
    return text.substr(0, text.find('\n'));
}

std::string seconds_text(std::chrono::milliseconds time) {
    std::ostringstream text;
    text << std::chrono::duration<double>(time).count() << " s";
    return text.str();
}

/// Why others blame this rank; nothing where they need not.
struct Verdicts {
    std::vector<std::string> ended;  ///< ended or left
    std::vector<std::string> late;
    std::vector<int> waiting;
};

std::string verdict(int rank, const std::string& why, const RankState& state) {
    return "rank " + std::to_string(rank) + " " + why + " and was last at \"" + state.phase + "\"";
}

Verdicts judge(const FailedExchange& failed, const RankStates& before, const RankStates& after) {
    Verdicts verdicts;
    for (int rank = 0; rank < static_cast<int>(after.size()); ++rank) {
        const std::optional<RankState>& state = after[rank];
        if (!state) {
            verdicts.ended.push_back("rank " + std::to_string(rank) + " never arrived");
        } else if (rank == failed.rank) {
            verdicts.waiting.push_back(rank);
        } else if (state->left) {
            verdicts.ended.push_back(verdict(rank, "has left the group", *state));
        } else if (before[rank] && before[rank]->beat == state->beat) {
            verdicts.ended.push_back(
                verdict(rank, "gives no sign of life (it has ended or is stopped)", *state));
        } else if (state->joined < failed.index) {
            verdicts.late.push_back(
                verdict(rank, "is running but did not join within " + seconds_text(failed.timeout),
                        *state));
        } else {
            verdicts.waiting.push_back(rank);
        }
    }
    return verdicts;
}

}  // namespace

std::string RankState::encoded() const {
    std::ostringstream text;
    text << beat << ' ' << joined << ' ' << left << ' ' << phase;
    return text.str();
}

RankState RankState::decoded(const std::string& text) {
    RankState state;
    std::istringstream stream(text);
    stream >> state.beat >> state.joined >> state.left;
    stream.get();
    std::getline(stream, state.phase);
    return state;
}

std::string name_ranks(const std::vector<int>& ranks) {
    std::string text = ranks.size() == 1 ? "rank " : "ranks ";
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        if (i > 0) {
            text += i + 1 == ranks.size() ? " and " : ", ";
        }
        text += std::to_string(ranks[i]);
    }
    return text;
}

std::string describe(const FailedExchange& failed, const RankStates& before,
                     const RankStates& after) {
    const Verdicts verdicts = judge(failed, before, after);
    const std::vector<std::string>& guilty =
        verdicts.ended.empty() ? verdicts.late : verdicts.ended;
    const std::string head = "the exchange \"" + failed.what + "\" failed: ";
    if (guilty.empty()) {
        return head + "rank " + std::to_string(failed.rank) + " of " +
               std::to_string(after.size()) + " says \"" + first_line(failed.cause) +
               "\", though every rank has joined it: look at the network between the machines";
    }
    std::string text = head;
    for (std::size_t i = 0; i < guilty.size(); ++i) {
        text += (i > 0 ? "; " : "") + guilty[i];
    }
    return text + " (" + name_ranks(verdicts.waiting) + " of " + std::to_string(after.size()) +
           (verdicts.waiting.size() == 1 ? " waits" : " wait") +
           " for it): look at its log, then start the run again with --resume auto";
}

}  // namespace matrix::distributed
