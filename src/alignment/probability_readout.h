#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace matrix::alignment {

/// A run of rows of the sequence.
struct RowRange {
    std::int64_t begin = 0, count = 0;
};

// Both give log((1 / (H n)) sum of P) for every entity, [B, E, cells] float32 (float64 for float64
// inputs), -inf for an empty set; P = softmax over all keys of q k^T scale, n the entity's chosen
// positions. query, key [B, H, S, d]; `chosen` holds the positions of entity e of sample b, int64
// on the queries' device and counted from the start of the range they stand in, at b * E + e.
// Formed by log-sum-exp, so that nothing underflows; the gradient in query and key includes the
// softmax's denominator.

/// Columns: sums over heads and chosen keys, for every query of `queries`. `log_sum_exp` [B, H, S]
/// of the queries.
[[nodiscard]] at::Tensor log_mean_columns(const at::Tensor& query, const at::Tensor& key,
                                          const at::Tensor& log_sum_exp,
                                          const std::vector<at::Tensor>& chosen,
                                          std::int64_t keys_begin, RowRange queries, double scale);

/// Rows: sums over heads and chosen queries, for every key of `keys`.
[[nodiscard]] at::Tensor log_mean_rows(const at::Tensor& query, const at::Tensor& key,
                                       const std::vector<at::Tensor>& chosen,
                                       std::int64_t queries_begin, RowRange keys, double scale);

}  // namespace matrix::alignment
