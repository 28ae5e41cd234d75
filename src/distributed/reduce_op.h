#pragma once

#include <torch/csrc/distributed/c10d/Types.hpp>

#include "matrix/distributed/communicator.h"

namespace matrix::distributed {

[[nodiscard]] inline c10d::ReduceOp to_c10d(ReduceOp op) {
    switch (op) {
        case ReduceOp::kSum:
            return c10d::ReduceOp::SUM;
        case ReduceOp::kAverage:
            return c10d::ReduceOp::AVG;
        case ReduceOp::kMax:
            return c10d::ReduceOp::MAX;
        case ReduceOp::kMin:
            break;
    }
    return c10d::ReduceOp::MIN;
}

}  // namespace matrix::distributed
