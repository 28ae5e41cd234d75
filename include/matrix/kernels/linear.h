#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace matrix::kernels {

/// A frozen linear map and its low-rank addition: x w^T + bias + scale (x a^T) b^T.
struct LinearMap {
    at::Tensor weight;  ///< [out, in]; float8_e4m3fn with a `weight_scale`
    at::Tensor bias;    ///< [out] or undefined
    at::Tensor a;       ///< [r, in] or undefined; a and b may have another dtype than x
    at::Tensor b;       ///< [out, r]
    double scale = 1.0;
    at::Tensor weight_scale;  ///< float32 [out, 1] of a weight at rest in float8, else undefined
};

/// What maps of one input give, and all that a block must keep so that running it again runs no
/// product.
struct LinearResult {
    std::vector<at::Tensor> outputs;  ///< [..., out] of each map
    std::vector<at::Tensor> low;      ///< [..., r] of each map, undefined without a delta
};

/// Every map of x [..., in], differentiable in x and in each a and b: products accumulate into one
/// another (beta = 1), forward and backward, so that a delta costs no pass of its own. The input is
/// kept for the gradient of an `a` that wants one, and for nothing else. With `kept`, the result of
/// an earlier call on equal inputs, no product is run: its outputs are taken for this call's, be
/// they values or mere shapes, and what it lacks of `low` is computed where a gradient wants it.
/// A weight at rest in float8 multiplies x in float8 (kernels/fp8.h); low-rank products and
/// gradients have x's dtype as ever, and gradients are those of the widened weight.
[[nodiscard]] LinearResult linear(const at::Tensor& x, const std::vector<LinearMap>& maps,
                                  const std::optional<LinearResult>& kept = std::nullopt);

/// A tensor of that shape whose values nobody reads: it holds one element.
[[nodiscard]] at::Tensor shape_only(at::IntArrayRef shape, const at::TensorOptions& options);

}  // namespace matrix::kernels
