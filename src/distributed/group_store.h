#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <optional>
#include <string>

#include "distributed/rank_state.h"
#include "matrix/distributed/environment.h"

namespace c10d {
class Store;
}

namespace matrix::distributed {

/// A connection to the group's store, under the environment's prefix; with `host`, the store itself
/// too, which lives as long as what is returned. Throws c10d's own exceptions.
[[nodiscard]] c10::intrusive_ptr<c10d::Store> open_store(const Environment& environment, bool host,
                                                         std::chrono::milliseconds timeout);

[[nodiscard]] std::string state_key(int rank);
[[nodiscard]] RankStates read_states(c10d::Store& store, int world_size);

/// The message that the group fails with: the first one that a rank posts. Returns that one.
std::string post_failure(c10d::Store& store, const std::string& message);
[[nodiscard]] std::optional<std::string> posted_failure(c10d::Store& store);

}  // namespace matrix::distributed
