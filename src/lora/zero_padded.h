#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace matrix::lora {

/// `tensor` with zeros behind it, up to `size` along dimension `dim`.
[[nodiscard]] at::Tensor zero_padded(const at::Tensor& tensor, std::int64_t dim, std::int64_t size);

}  // namespace matrix::lora
