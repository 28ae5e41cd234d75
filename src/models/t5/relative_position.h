#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace matrix::models {

/// T5's bidirectional bucket of `relative_position` (key position - query position, I64, on the
/// CPU), same shape: half of the buckets for keys behind the query; of each half, one half for
/// exact distances and the rest in equal ratios up to `max_distance` and whatever is beyond.
[[nodiscard]] at::Tensor relative_position_bucket(const at::Tensor& relative_position,
                                                  std::int64_t num_buckets,
                                                  std::int64_t max_distance);

}  // namespace matrix::models
