#pragma once

#include <ATen/core/Tensor.h>

namespace matrix::distributed {

/// TORCH_CHECKs of the shapes that Communicator documents; `many` is [world, ...] of `one`.
void check_tensor(const at::Tensor& tensor, const char* name);
void check_gathered(const at::Tensor& many, const at::Tensor& one, int world_size);

}  // namespace matrix::distributed
