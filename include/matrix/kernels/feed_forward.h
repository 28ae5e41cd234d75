#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace matrix::kernels {

/// Rows that the inner activation, four times as wide as its input, exists for at a time.
inline constexpr std::int64_t kFeedForwardChunkRows = 4096;

/// What a feed-forward keeps from forward to backward, and whether its values are wanted at all.
enum class FeedForwardMode {
    kKeepHidden,  ///< keeps the first product: nothing runs twice
    kRecompute,   ///< keeps the input alone; backward runs the first product again
    kGraphOnly,   ///< like kRecompute, and the output's values are undefined: a block that is run
                  ///< again for its gradients needs none of them
};

/// GELU(x w1^T + b1) w2^T + b2 with the tanh approximation, both products frozen: x [B, S, D], w1
/// [I, D], b1 [I], w2 [D, I], b2 [D]. Differentiable in x. Runs over chunks of rows, so that the
/// [rows, I] buffers stay small; the chunks are the same in every mode and so are the bits of the
/// result.
[[nodiscard]] at::Tensor feed_forward(const at::Tensor& x, const at::Tensor& w1,
                                      const at::Tensor& b1, const at::Tensor& w2,
                                      const at::Tensor& b2, FeedForwardMode mode);

}  // namespace matrix::kernels
