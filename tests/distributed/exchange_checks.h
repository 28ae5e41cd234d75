#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "matrix/distributed/communicator.h"

namespace matrix::test {

/// std::runtime_error where they are not equal bit for bit or of different dtypes.
void want(const at::Tensor& got, const at::Tensor& wanted, const std::string& what);

/// Every exchange of a communicator and of subgroups of it against what it says; every rank calls
/// it. std::runtime_error for other values.
void check_exchanges(distributed::Communicator& group);

}  // namespace matrix::test
