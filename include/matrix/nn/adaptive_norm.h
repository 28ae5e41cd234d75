#pragma once

#include "matrix/nn/linear.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace matrix::nn {

/// LayerNorm with affine parameters, or without: undefined tensors.
struct LayerNorm {
    at::Tensor weight;  ///< [D]
    at::Tensor bias;    ///< [D]
    double eps = 1e-5;

    /// Over the last dimension.
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
};

/// Rows before a sublayer, and the gates its output will be added with.
struct Modulated {
    at::Tensor rows;        ///< [B, S, D]
    at::Tensor text_gate;   ///< [B, 1, D]
    at::Tensor video_gate;  ///< [B, 1, D]
};

/// Adaptive LayerNorm of CogVideoX's blocks: a linear of SiLU(embedding) gives shift, scale and
/// gate for video rows, then the same three for text rows; both share one LayerNorm over the joint
/// sequence.
struct AdaptiveNorm {
    Linear linear;  ///< [6 D, E]
    LayerNorm norm;

    /// [B, 6 D] of `silu_embedding` [B, E].
    [[nodiscard]] at::Tensor modulation(const at::Tensor& silu_embedding) const;
    /// x [B, S, D] with `text_rows` text rows first.
    [[nodiscard]] Modulated operator()(const at::Tensor& x, const at::Tensor& modulation,
                                       std::int64_t text_rows) const;
};

/// x + gate * y, row range by row range; `kept` as in kernels::gated_residual.
[[nodiscard]] at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, std::int64_t text_rows,
                                   const Modulated& gates,
                                   const std::optional<at::Tensor>& kept = std::nullopt);

}  // namespace matrix::nn
