#pragma once

#include <memory>

#include "matrix/distributed/communicator.h"

namespace matrix::distributed {

/// Processes with a GPU each (also a single one). Only in builds with MATRIX_WITH_CUDA.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_communicator(const Environment& environment,
                                                                   at::Device device,
                                                                   std::chrono::seconds timeout);

}  // namespace matrix::distributed
