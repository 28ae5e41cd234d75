#pragma once

#include "matrix/distributed/communicator.h"

namespace matrix::test {

/// The functions of collective.h over `group`; every rank calls it. std::runtime_error for other
/// results than wanted.
void check_collectives(distributed::Communicator& group);

}  // namespace matrix::test
