#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace matrix::kernels {

/// What one attention call gives, and all a block must keep so that running it again need not run
/// attention.
struct AttentionResult {
    at::Tensor output;              ///< [B, heads, S, head_dim]
    at::Tensor log_sum_exp;         ///< [B, heads, S] float32, without gradient
    std::vector<at::Tensor> saved;  ///< what the backend's backward wants besides
};

/// softmax(q k^T scale) v on a fused kernel, without mask or dropout: q [B, heads, S, head_dim], k
/// and v [B, heads, keys, head_dim]. On GPUs a shape's first call chooses the kernel; RunError
/// where none is right. Differentiable in q, k and v. With `kept`, the result of an earlier call on
/// equal inputs, nothing is run: its values become this call's and only the backward is left to do.
[[nodiscard]] AttentionResult attention(const at::Tensor& query, const at::Tensor& key,
                                        const at::Tensor& value, double scale,
                                        const std::optional<AttentionResult>& kept = std::nullopt);

}  // namespace matrix::kernels
