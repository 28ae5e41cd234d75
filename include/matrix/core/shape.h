#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

namespace matrix {

/// Throws RunError, naming the tensor, what came and what was wanted, unless `tensor` is defined
/// and has `shape`; -1 in `shape` matches any size.
void expect_shape(const at::Tensor& tensor, at::IntArrayRef shape, std::string_view name);

/// "[2, 13, 16, 60, 90]"
[[nodiscard]] std::string shape_text(at::IntArrayRef shape);

/// "float32", "bfloat16", "float16", "float64" and the integer names, as PyTorch spells them.
[[nodiscard]] std::string dtype_text(at::ScalarType dtype);

/// The inverse for compute dtypes, "float32" or "bfloat16"; UsageError otherwise, naming `where`.
[[nodiscard]] at::ScalarType parse_compute_dtype(std::string_view text, std::string_view where);

}  // namespace matrix
