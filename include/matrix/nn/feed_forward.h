#pragma once

#include "matrix/nn/linear.h"
#include "matrix/nn/recompute.h"

#include <ATen/core/Tensor.h>

namespace matrix::nn {

/// Two frozen linears with a GELU (tanh approximation) between them.
struct FeedForward {
    Linear in;   ///< [I, D]
    Linear out;  ///< [D, I]

    /// x [B, S, D]. Keeps the inner buffer for backward with `keep_hidden`, else runs `in` again
    /// there; while a memo is recomputing, the values of the result are undefined, since no
    /// gradient needs them.
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x, bool keep_hidden,
                                        const RecomputeMemo& memo) const;
};

}  // namespace matrix::nn
