#pragma once

#include "matrix/kernels/linear.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace matrix::nn {

/// A low-rank addition to a linear map, as plain data: y += scale * B (A x). `lora/` makes, loads,
/// saves and merges them.
struct LowRankDelta {
    at::Tensor a;  ///< [r, in], or a convolution's [r, C, ...] with prod(C, ...) = in
    at::Tensor b;  ///< [out, r], or [out, r, 1, 1]
    double scale = 1.0;
};

/// y = W x + b, plus its delta. A patch convolution whose stride is its kernel is the same map over
/// unfolded patches; its weight keeps the checkpoint's shape and is read as [out, in]. Weights,
/// biases and deltas of another dtype than x (float32 masters under bfloat16) are cast on the way
/// in, so that their gradients keep their own dtype.
struct Linear {
    at::Tensor weight;  ///< [out, in] or [out, C, kernel...]
    at::Tensor bias;    ///< [out] or undefined
    std::optional<LowRankDelta> delta;
    /// Trailing input features that were added to the layer. Their product is a sum of its own: as
    /// one sum, zeros there could still move where a matrix product splits it, and so its last bit.
    std::int64_t added_features = 0;
    /// Float32 [out, 1] of a frozen weight at rest in float8, else undefined. frozen() multiplies
    /// in float8, the operator widens the weight.
    at::Tensor weight_scale;

    /// x [..., in] to [..., out].
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
    /// The same for a frozen weight and bias, to be run together with others or with kept results.
    [[nodiscard]] kernels::LinearMap frozen() const;
    [[nodiscard]] std::int64_t in_features() const;
    [[nodiscard]] std::int64_t out_features() const;
    /// Appends the tensors of this layer that require a gradient.
    void collect_trainable(std::vector<at::Tensor>& into) const;
};

}  // namespace matrix::nn
