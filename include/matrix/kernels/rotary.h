#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace matrix::kernels {

/// LayerNorm over head_dim of every row, then a rotation of adjacent channel pairs on the rows from
/// `text_rows` on: x [B, S, heads, head_dim], also a view of a wider buffer; `weight`, `bias`
/// [head_dim]; `rotation` complex64 [S - text_rows, 1, head_dim / 2] (cos + i sin of each pair's
/// angle), or undefined for models without rotary embeddings. The result is contiguous. One pass
/// each way in float32 and bfloat16, rounded to x's dtype once; in others the norm rounds too.
/// Differentiable in x; saves x and the row statistics.
[[nodiscard]] at::Tensor norm_rotate(const at::Tensor& x, const at::Tensor& weight,
                                     const at::Tensor& bias, double eps, const at::Tensor& rotation,
                                     std::int64_t text_rows);

}  // namespace matrix::kernels
