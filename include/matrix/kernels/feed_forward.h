#pragma once

#include "matrix/kernels/linear.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

namespace matrix::kernels {

/// Rows that the inner activation, four times as wide as its input, exists for at a time: an eighth
/// of all, but enough for products at full speed and no more than they need.
[[nodiscard]] constexpr std::int64_t feed_forward_chunk_rows(std::int64_t rows) {
    return std::min(rows, std::clamp<std::int64_t>((rows + 7) / 8, 512, 4096));
}

/// What a feed-forward keeps from forward to backward, and whether its values are wanted at all.
enum class FeedForwardMode {
    kKeepHidden,  ///< keeps the first product: nothing runs twice
    kRecompute,   ///< keeps the input alone; backward runs the first product again
    kGraphOnly,   ///< like kRecompute, and the output's values are undefined: a block that is run
                  ///< again for its gradients needs none of them
};

/// second(GELU(first(x))) with the tanh approximation, both maps frozen, with a bias and without a
/// low-rank addition: x [B, S, D], first [I, D], second [D, I]. A weight at rest in float8
/// multiplies in float8, forward. Differentiable in x. Runs over chunks of rows, so that the
/// [rows, I] buffers stay small; the chunks are the same in every mode and so are the bits of the
/// result. `hidden` [B S, I], the GELU's input, may be given for it to go from one call to another:
/// kKeepHidden fills it, kGraphOnly reads it where it is defined, and x's values are not needed
/// then.
[[nodiscard]] at::Tensor feed_forward(const at::Tensor& x, const LinearMap& first,
                                      const LinearMap& second, FeedForwardMode mode,
                                      at::Tensor* hidden = nullptr);

}  // namespace matrix::kernels
