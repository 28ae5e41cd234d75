#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace matrix::distributed {

/// TORCH_CHECKs of the shapes that Communicator documents; `many` is [world, ...] of `one`.
void check_tensor(const at::Tensor& tensor, const char* name);
void check_gathered(const at::Tensor& many, const at::Tensor& one, int world_size);
void check_exchanged(const at::Tensor& output, const at::Tensor& input, int world_size);

/// Of Communicator::subgroup, called by `rank` of `world_size`.
void check_members(const std::vector<int>& ranks, int rank, int world_size);

}  // namespace matrix::distributed
