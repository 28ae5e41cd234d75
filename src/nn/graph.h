#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace matrix::nn {

/// Walks the graph behind `roots` and throws if it ends in a leaf that is not among `listed`: such
/// a tensor would silently get no gradient from a recomputed block.
void check_leaves(const std::vector<at::Tensor>& roots, const std::vector<at::Tensor>& listed);

}  // namespace matrix::nn
