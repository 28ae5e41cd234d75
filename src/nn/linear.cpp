#include "matrix/nn/linear.h"

#include <ATen/ATen.h>

#include "matrix/kernels/fp8.h"

namespace matrix::nn {
namespace {

/// The weight as [out, in] in the dtype of x.
at::Tensor as_matrix(const at::Tensor& weight, const at::Tensor& x) {
    return (weight.dim() > 2 ? weight.flatten(1) : weight).to(x.scalar_type());
}

}  // namespace

at::Tensor Linear::operator()(const at::Tensor& x) const {
    const at::Tensor matrix = weight_scale.defined()
                                  ? kernels::widened({weight, weight_scale}, x.scalar_type())
                                  : as_matrix(weight, x);
    const at::Tensor offset = bias.defined() ? bias.to(x.scalar_type()) : at::Tensor();
    at::Tensor y;  // [..., out]
    if (added_features == 0) {
        y = at::linear(x, matrix, offset);
    } else {
        const std::int64_t first = in_features() - added_features;
        const auto part = [](const at::Tensor& t, std::int64_t begin, std::int64_t length) {
            return t.narrow(-1, begin, length).contiguous();
        };
        y = at::linear(part(x, 0, first), part(matrix, 0, first), offset) +
            at::linear(part(x, first, added_features), part(matrix, first, added_features));
    }
    if (delta) {
        const at::Tensor low = at::linear(x, as_matrix(delta->a, x));  // [..., r]
        y = at::add(y, at::linear(low, as_matrix(delta->b, x)), delta->scale);
    }
    return y;
}

kernels::LinearMap Linear::frozen() const {
    TORCH_CHECK(
        added_features == 0 && !weight.requires_grad() && !(bias.defined() && bias.requires_grad()),
        "a linear of weight ", weight.sizes(), " is not frozen");
    kernels::LinearMap map{weight, bias, {}, {}, 1.0, weight_scale};
    if (delta) {
        map.a = delta->a;
        map.b = delta->b;
        map.scale = delta->scale;
    }
    return map;
}

std::int64_t Linear::in_features() const {
    return weight.numel() / weight.size(0);
}

std::int64_t Linear::out_features() const {
    return weight.size(0);
}

void Linear::collect_trainable(std::vector<at::Tensor>& into) const {
    const auto collect = [&](const at::Tensor& tensor) {
        if (tensor.defined() && tensor.requires_grad()) {
            into.push_back(tensor);
        }
    };
    collect(weight);
    collect(bias);
    if (delta) {
        collect(delta->a);
        collect(delta->b);
    }
}

}  // namespace matrix::nn
