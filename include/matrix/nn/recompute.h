#pragma once

#include "matrix/kernels/attention.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

namespace matrix::nn {

/// What a block carries from its forward to the run that backward repeats.
struct RecomputeMemo {
    bool recomputing = false;  ///< true while backward runs the block again
    std::optional<kernels::AttentionResult>
        attention;  ///< set by the first run, used by the second
};

/// A block: a pure function of its inputs and its parameters. It may be run twice.
using BlockFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs,
                                                            RecomputeMemo& memo)>;

/// Runs `block` as one autograd node that keeps its inputs and what the memo holds (attention's
/// output and log-sum-exp), and runs it again in backward for everything else. Gradients have the
/// same bits as those of keeping everything. `parameters` are all tensors requiring a gradient that
/// the block reads besides its inputs: one that is not listed would get no gradient (builds without
/// NDEBUG walk the graph and refuse). Outputs that nothing differentiates cost nothing.
[[nodiscard]] std::vector<at::Tensor> recompute_in_backward(
    const BlockFunction& block, const std::vector<at::Tensor>& inputs,
    const std::vector<at::Tensor>& parameters);

}  // namespace matrix::nn
