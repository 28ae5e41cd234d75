#pragma once

#include <string>

#include "matrix/nn/linear.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::models {

/// `<prefix>.weight` [out, in] and, with `bias`, `<prefix>.bias` [out].
inline nn::Linear take_linear(tensor_io::WeightSource& weights, const std::string& prefix, std::int64_t out,
                              std::int64_t in, bool bias = true) {
    nn::Linear linear;
    linear.weight = weights.take(prefix + ".weight", {out, in});
    if (bias) {
        linear.bias = weights.take(prefix + ".bias", {out});
    }
    return linear;
}

}  // namespace matrix::models
