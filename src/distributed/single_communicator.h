#pragma once

#include <memory>

#include "matrix/distributed/communicator.h"

namespace matrix::distributed {

/// One process: nothing is exchanged, and nothing is computed.
[[nodiscard]] std::unique_ptr<Communicator> make_single_communicator(at::Device device);

}  // namespace matrix::distributed
