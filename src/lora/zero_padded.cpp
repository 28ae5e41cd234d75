#include "lora/zero_padded.h"

#include <ATen/ATen.h>

#include <cstddef>
#include <vector>

namespace matrix::lora {

at::Tensor zero_padded(const at::Tensor& tensor, std::int64_t dim, std::int64_t size) {
    std::vector<std::int64_t> shape = tensor.sizes().vec();
    shape[static_cast<std::size_t>(dim)] = size - tensor.size(dim);
    return at::cat({tensor, at::zeros(shape, tensor.options())}, dim);
}

}  // namespace matrix::lora
