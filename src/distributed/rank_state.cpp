#include "distributed/rank_state.h"

#include <sstream>

#include "distributed/messages.h"
#include "distributed/packed_texts.h"

namespace matrix::distributed {
namespace {

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
    for (const int rank : failed.group->ranks) {
        const std::optional<RankState>& state = after[rank];
        if (!state) {
            verdicts.ended.push_back("rank " + std::to_string(rank) + " never arrived");
            continue;
        }
        const auto found = state->groups.find(failed.group->name);
        const RankState::InGroup here =
            found == state->groups.end() ? RankState::InGroup() : found->second;
        if (rank == failed.rank) {
            verdicts.waiting.push_back(rank);
        } else if (state->left || here.left) {
            verdicts.ended.push_back(verdict(rank, "has left the group", *state));
        } else if (before[rank] && before[rank]->beat == state->beat) {
            verdicts.ended.push_back(
                verdict(rank, "gives no sign of life (it has ended or is stopped)", *state));
        } else if (here.joined < failed.index) {
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
    const auto time =
        std::chrono::duration_cast<std::chrono::milliseconds>(written.time_since_epoch());
    std::vector<std::string> texts{std::to_string(beat), left ? "1" : "0",
                                   std::to_string(time.count()), phase};
    for (const auto& [name, group] : groups) {
        texts.insert(texts.end(), {name, std::to_string(group.joined), group.left ? "1" : "0"});
    }
    return pack_texts(texts);
}

RankState RankState::decoded(const std::string& text) {
    const std::vector<std::string> texts = unpack_texts(text);
    const std::chrono::milliseconds time(std::stoll(texts.at(2)));
    RankState state{std::stoll(texts.at(0)),
                    texts.at(1) == "1",
                    std::chrono::system_clock::time_point(time),
                    texts.at(3),
                    {}};
    for (std::size_t i = 4; i < texts.size(); i += 3) {
        state.groups[texts[i]] = {std::stoll(texts.at(i + 1)), texts.at(i + 2) == "1"};
    }
    return state;
}

std::string describe(const FailedExchange& failed, const RankStates& before,
                     const RankStates& after) {
    const Verdicts verdicts = judge(failed, before, after);
    const std::vector<std::string>& guilty =
        verdicts.ended.empty() ? verdicts.late : verdicts.ended;
    const std::string head =
        "the exchange \"" + failed.what + "\"" +
        (failed.group->name.empty() ? "" : " of " + name_ranks(failed.group->ranks)) + " failed: ";
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
