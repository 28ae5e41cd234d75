#include "distributed/group_store.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace matrix::distributed {
namespace {

constexpr const char* kFailure = "failure";

}  // namespace

c10::intrusive_ptr<c10d::Store> open_store(const Environment& environment, bool host,
                                           std::chrono::milliseconds timeout) {
    c10d::TCPStoreOptions options;
    options.port = environment.master_port;
    options.isServer = host;
    options.waitWorkers = false;  // c10d's own wait does not say who is missing
    options.timeout = timeout;
    return c10::make_intrusive<c10d::PrefixStore>(
        environment.store_prefix,
        c10::make_intrusive<c10d::TCPStore>(environment.master_address, options));
}

std::string state_key(int rank) {
    return "state/" + std::to_string(rank);
}

RankStates read_states(c10d::Store& store, int world_size) {
    RankStates states(world_size);
    for (int rank = 0; rank < world_size; ++rank) {
        if (store.check({state_key(rank)})) {
            states[rank] = RankState::decoded(store.get_to_str(state_key(rank)));
        }
    }
    return states;
}

std::string post_failure(c10d::Store& store, const std::string& message) {
    return store.compareSet(kFailure, std::string(), message);
}

std::optional<std::string> posted_failure(c10d::Store& store) {
    if (!store.check({kFailure})) {
        return std::nullopt;
    }
    return store.get_to_str(kFailure);
}

}  // namespace matrix::distributed
