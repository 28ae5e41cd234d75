#pragma once

#include <memory>

#include "matrix/distributed/communicator.h"

namespace matrix::distributed {

/// A group of one: nothing is exchanged, and nothing is computed. One rank of a `parent`, which
/// must outlive it, or else a process by itself.
[[nodiscard]] std::unique_ptr<Communicator> make_single_communicator(
    at::Device device, Communicator* parent = nullptr);

}  // namespace matrix::distributed
