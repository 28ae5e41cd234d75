#pragma once

#include "matrix/nn/linear.h"
#include "matrix/nn/recompute.h"

#include <ATen/core/Tensor.h>

namespace matrix::nn {

/// Two frozen linears with a GELU (tanh approximation) between them.
struct FeedForward {
    Linear in;   ///< [I, D]
    Linear out;  ///< [D, I]

    /// x [B, S, D]. While a memo is recomputing, the result is a shape alone, since no gradient
    /// needs its values.
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x, RecomputeMemo& memo) const;
    /// Rows that the inner buffer exists for at a time, of `rows`.
    [[nodiscard]] static std::int64_t chunk_rows(std::int64_t rows);
};

}  // namespace matrix::nn
