#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace matrix::alignment {

/// map[b, e, r] = factor * sum_h (sum_j weights[b, e, j] source[b, h, source_begin + j]) . rows[b,
/// h, rows_begin + r].
///
/// source, rows [B, H, S, d] in any floating dtype; weights [B, E, n] without gradient; result [B,
/// E, num_rows] in float32, or float64 for float64 inputs. The mean over heads and tokens of
/// query-key products, since the mean commutes with the bilinear form. Differentiable once in
/// source and rows.
[[nodiscard]] at::Tensor pooled_product(const at::Tensor& source, const at::Tensor& rows,
                                        const at::Tensor& weights, std::int64_t source_begin,
                                        std::int64_t rows_begin, std::int64_t num_rows,
                                        double factor);

}  // namespace matrix::alignment
