#include "matrix/tensor_io/weights.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "matrix/core/shape.h"

namespace matrix::tensor_io {

at::Tensor CountingWeights::take(const std::string& key, at::IntArrayRef shape) {
    shapes_.insert_or_assign(key, shape.vec());
    return at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(at::kMeta));
}

std::int64_t CountingWeights::num_elements() const {
    std::int64_t total = 0;
    for (const auto& [key, shape] : shapes_) {
        total += c10::multiply_integers(shape);
    }
    return total;
}

at::Tensor GeneratedWeights::take(const std::string& key, at::IntArrayRef shape) {
    at::Tensor& tensor = tensors_[key];
    if (!tensor.defined()) {
        tensor = generate_(key, shape);
    }
    TORCH_CHECK(tensor.defined() && tensor.sizes() == shape, "generated tensor ", key,
                " has not the shape ", shape_text(shape));
    return tensor;
}

}  // namespace matrix::tensor_io
