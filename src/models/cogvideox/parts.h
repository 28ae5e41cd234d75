#pragma once

#include <string>

#include "matrix/nn/adaptive_norm.h"
#include "matrix/nn/linear.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::models {

/// `<prefix>.weight` [out, in] and, with `bias`, `<prefix>.bias` [out].
inline nn::Linear take_linear(tensor_io::WeightSource& weights, const std::string& prefix,
                              std::int64_t out, std::int64_t in, bool bias = true) {
    nn::Linear linear;
    linear.weight = weights.take(prefix + ".weight", {out, in});
    if (bias) {
        linear.bias = weights.take(prefix + ".bias", {out});
    }
    return linear;
}

/// `<prefix>.weight` and `<prefix>.bias` [dim], or a norm without parameters.
inline nn::LayerNorm take_norm(tensor_io::WeightSource& weights, const std::string& prefix,
                               std::int64_t dim, double eps, bool affine = true) {
    if (!affine) {
        return {{}, {}, eps};
    }
    const at::Tensor weight = weights.take(prefix + ".weight", {dim});
    return {weight, weights.take(prefix + ".bias", {dim}), eps};
}

}  // namespace matrix::models
