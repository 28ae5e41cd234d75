#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

// Adaptive LayerNorm over one joint [B, S, D] buffer: text rows first, video rows after them, each
// with its own shift, scale and gate, told apart by row range and never by splitting the buffer.
// Gradients flow to the rows alone: the modulation comes from the timestep, which nothing trainable
// precedes.

namespace matrix::kernels {

/// One value a channel for each of the two row ranges.
struct RowValues {
    at::Tensor text;   ///< [B, 1, D]
    at::Tensor video;  ///< [B, 1, D]
};

/// LayerNorm(x) * (1 + scale) + shift. `weight` and `bias` [D] or undefined. Saves x and the row
/// statistics. In float32 and bfloat16 one pass each way, in float32 and rounded to the dtype of x
/// once; otherwise rounded after each operation.
[[nodiscard]] at::Tensor layer_norm_modulate(const at::Tensor& x, const at::Tensor& weight,
                                             const at::Tensor& bias, double eps,
                                             std::int64_t text_rows, const RowValues& shift,
                                             const RowValues& scale);

/// x + gate * y, all [B, S, D] of one dtype. Saves the gates alone. Rounds like
/// layer_norm_modulate. With `kept`, the values of an earlier call, nothing is computed, and
/// neither x's nor y's values are read.
[[nodiscard]] at::Tensor gated_residual(const at::Tensor& x, const at::Tensor& y,
                                        std::int64_t text_rows, const RowValues& gate,
                                        const std::optional<at::Tensor>& kept = std::nullopt);

}  // namespace matrix::kernels
