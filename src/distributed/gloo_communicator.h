#pragma once

#include <memory>

#include "matrix/distributed/communicator.h"

namespace matrix::distributed {

/// Several processes on CPUs.
[[nodiscard]] std::unique_ptr<Communicator> make_gloo_communicator(const Environment& environment,
                                                                   std::chrono::seconds timeout);

}  // namespace matrix::distributed
