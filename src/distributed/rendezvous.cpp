#include "distributed/rendezvous.h"

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "distributed/group_store.h"
#include "distributed/messages.h"
#include "distributed/phases.h"
#include "matrix/core/error.h"

namespace matrix::distributed {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll{20};
constexpr std::chrono::milliseconds kMeetingPoll{500};
constexpr std::chrono::milliseconds kGrace{5000};    // for the others, after a failure
constexpr std::chrono::milliseconds kAnswer{3000};   // for a store that may be gone
constexpr std::chrono::milliseconds kSilence{3000};  // after which a rank counts as ended

/// For how long each rank has been silent, as this process sees it.
class Silence {
public:
    explicit Silence(int world_size)
        : signs_(static_cast<std::size_t>(world_size), {-1, Clock::now()}) {}

    [[nodiscard]] Clock::duration of(int rank, const RankState& state) {
        Sign& sign = signs_[static_cast<std::size_t>(rank)];
        if (sign.beat != state.beat) {
            sign = {state.beat, Clock::now()};
        }
        return Clock::now() - sign.at;
    }

private:
    struct Sign {
        std::int64_t beat;
        Clock::time_point at;
    };
    std::vector<Sign> signs_;
};

std::string store_name(const Environment& environment) {
    return environment.master_address + ":" + std::to_string(environment.master_port);
}

std::string diagnose(c10d::Store& store, int world_size, const FailedExchange& failed) {
    const RankStates before = read_states(store, world_size);
    std::this_thread::sleep_for(kSignOfLife);
    if (const auto message = posted_failure(store)) {
        return *message;
    }
    const RankStates after = read_states(store, world_size);
    return post_failure(store, describe(failed, before, after));
}

std::string host_name(const Environment& environment) {
    return std::string(environment.agent_store ? "the launcher" : "rank 0") +
           ", which hosts the group's store at " + store_name(environment) +
           ", has ended or does not answer";
}

std::string store_is_gone(const Environment& environment, const FailedExchange& failed,
                          const std::string& reason) {
    return "the exchange \"" + failed.what + "\" failed on rank " + std::to_string(failed.rank) +
           " (" + first_line(failed.cause) + "), and " + host_name(environment) + " (" +
           first_line(reason) + "): look at its log, then start the run again with --resume auto";
}

}  // namespace

Rendezvous::Rendezvous(const Environment& environment, std::chrono::milliseconds timeout)
    : environment_(environment),
      timeout_(timeout),
      hosts_store_(environment.rank == 0 && !environment.agent_store) {
    connect();
    try {
        wait_for_all();
    } catch (const std::exception& fault) {
        set_failure(fault.what());
        board_->leave();
        wait_until_all_left();
        if (dynamic_cast<const Error*>(&fault) != nullptr) {
            throw;
        }
        throw RunError("the group's store at " + store_name(environment_) +
                       " went away while rank " + std::to_string(environment_.rank) +
                       " waited for the others (" + first_line(fault.what()) +
                       "): look at the log of rank 0");
    }
}

Rendezvous::~Rendezvous() {
    board_->leave();
    wait_until_all_left();
}

void Rendezvous::connect() {
    try {
        store_ = open_store(environment_, hosts_store_, timeout_);
        reader_.emplace(open_store(environment_, false, timeout_));
        const auto own = open_store(environment_, false, timeout_);
        board_ =
            std::make_unique<PhaseBoard>([own, key = state_key(environment_.rank)](
                                             const std::string& state) { own->set(key, state); });
    } catch (const std::exception& fault) {
        const std::string where = store_name(environment_);
        const std::string reason = " (" + first_line(fault.what()) + ")";
        if (hosts_store_) {
            throw RunError("rank 0 cannot open the group's store at " + where + reason +
                           ": MASTER_ADDR must be this machine and MASTER_PORT a free port");
        }
        throw RunError(std::string(environment_.agent_store ? "the launcher" : "rank 0") + " of " +
                       std::to_string(environment_.world_size) +
                       " did not open the group's store at " + where + " within " +
                       std::to_string(timeout_.count() / 1000) + " s; rank " +
                       std::to_string(environment_.rank) + " waits for it" + reason +
                       ": look whether it started, and at MASTER_ADDR and MASTER_PORT");
    }
}

void Rendezvous::wait_for_all() {
    const auto deadline = Clock::now() + timeout_;
    std::vector<std::string> keys;
    for (int rank = 0; rank < environment_.world_size; ++rank) {
        keys.push_back(state_key(rank));
    }
    while (!store_->check(keys)) {
        if (const auto message = posted_failure(*store_)) {
            throw RunError(*message);
        }
        if (Clock::now() < deadline) {
            std::this_thread::sleep_for(kPoll);
            continue;
        }
        const RankStates states = read_states(*store_, environment_.world_size);
        std::vector<int> present;
        std::vector<int> missing;
        for (int rank = 0; rank < environment_.world_size; ++rank) {
            (states[rank] ? present : missing).push_back(rank);
        }
        if (missing.empty()) {
            return;
        }
        throw RunError(post_failure(
            *store_, name_ranks(missing) + " of " + std::to_string(environment_.world_size) +
                         " did not arrive at " + store_name(environment_) + " within " +
                         std::to_string(timeout_.count() / 1000) + " s; " + name_ranks(present) +
                         " waited: look at the launcher's log for why it did not start"));
    }
}

void Rendezvous::meet(const std::string& place, const std::vector<int>& ranks) const {
    const auto key = [&](int rank) { return "meeting/" + place + "/" + std::to_string(rank); };
    store_->set(key(environment_.rank), "here");
    Silence silence(environment_.world_size);
    std::vector<int> missing = ranks;
    std::chrono::milliseconds pause = kPoll;
    while (true) {
        std::erase_if(missing, [&](int rank) { return store_->check({key(rank)}); });
        if (missing.empty()) {
            return;
        }
        // The first of them is enough to watch: where it has come, the next one is.
        const int rank = missing.front();
        const RankState state = RankState::decoded(store_->get_to_str(state_key(rank)));
        if ((state.left || silence.of(rank, state) > timeout_) && !store_->check({key(rank)})) {
            throw std::runtime_error("rank " + std::to_string(rank) +
                                     (state.left ? " has left" : " gives no sign of life"));
        }
        std::this_thread::sleep_for(pause);
        pause = std::min(2 * pause, kMeetingPoll);
    }
}

std::string Rendezvous::fail(const FailedExchange& failed) {
    std::string message;
    try {
        message =
            reader_->read([world_size = environment_.world_size, failed](
                              c10d::Store& store) { return diagnose(store, world_size, failed); },
                          kAnswer + kSignOfLife);
    } catch (const std::exception& fault) {
        message = store_is_gone(environment_, failed, fault.what());
    }
    set_failure(message);
    return message;
}

std::optional<std::string> Rendezvous::failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
}

void Rendezvous::set_failure(const std::string& message) {
    const std::lock_guard lock(mutex_);
    if (!failure_) {
        failure_ = message;
    }
}

std::string Rendezvous::phases() const {
    try {
        return reader_->read(
            [world_size = environment_.world_size](c10d::Store& store) {
                const RankStates before = read_states(store, world_size);
                std::this_thread::sleep_for(kSignOfLife);
                return describe_phases(before, read_states(store, world_size),
                                       std::chrono::system_clock::now());
            },
            kAnswer + kSignOfLife);
    } catch (const std::exception& fault) {
        return "rank " + std::to_string(environment_.rank) + ": " + board_->phase() +
               "; the others are unknown: " + host_name(environment_) + " (" +
               first_line(fault.what()) + ")";
    }
}

void Rendezvous::wait_until_all_left() const {
    if (!hosts_store_) {
        return;
    }
    Silence silence(environment_.world_size);
    const auto deadline = Clock::now() + (failure() ? std::min(timeout_, kGrace) : timeout_);
    const auto all_left = [&] {
        const RankStates states = read_states(*store_, environment_.world_size);
        bool result = true;
        for (int rank = 0; rank < environment_.world_size; ++rank) {
            if (!states[rank] || states[rank]->left) {
                continue;
            }
            result = silence.of(rank, *states[rank]) > kSilence && result;
        }
        return result;
    };
    try {
        while (!all_left() && Clock::now() < deadline) {
            std::this_thread::sleep_for(kPoll);
        }
    } catch (const std::exception&) {
        // The own store failed: nobody can be waited for.
    }
}

}  // namespace matrix::distributed
