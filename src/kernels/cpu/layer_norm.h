#pragma once

#include <cmath>

#include "kernels/cpu/loops.h"

namespace matrix::kernels::cpu {

/// What a LayerNorm keeps of a row: x_hat = (x - mean) rstd.
struct Statistics {
    float mean, rstd;
};

template <class T>
MATRIX_CPU_INLINE Statistics statistics(const T* x, std::int64_t width, float eps) {
    const auto n = static_cast<float>(width);
    float sum = 0;
    for (std::int64_t i = 0; i < width; ++i) {
        sum += load(x + i);
    }
    const float mean = sum / n;
    float squares = 0;
    for (std::int64_t i = 0; i < width; ++i) {
        const float d = load(x + i) - mean;
        squares += d * d;
    }
    return {mean, 1 / std::sqrt(squares / n + eps)};
}

/// The gradient of x from g, that of x_hat: rstd (g - mean(g) - x_hat mean(g x_hat)).
struct NormBackward {
    float mean, rstd, slope, offset;

    MATRIX_CPU_INLINE float operator()(float g, float x) const {
        return rstd * g - slope * (x - mean) - offset;
    }
};

/// From a row's sums of g and of g (x - mean).
MATRIX_CPU_INLINE NormBackward norm_backward(Statistics s, float sum, float projection,
                                             std::int64_t width) {
    const auto n = static_cast<float>(width);
    return {s.mean, s.rstd, s.rstd * s.rstd * s.rstd * projection / n, s.rstd * sum / n};
}

}  // namespace matrix::kernels::cpu
