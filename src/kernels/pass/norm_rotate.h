#pragma once

#include "kernels/pass/element.h"

// LayerNorm and rotation of the heads of [B, S, H, d], in B S rows. No sum crosses a head's row, so
// that results depend on no split of the rows. T is float or Bfloat16.

namespace matrix::kernels::pass {

/// [B, S, H, d] with channels side by side and the rest anywhere: strides in elements.
template <class T>
struct Heads {
    T* data;
    std::int64_t batch_stride, row_stride, head_stride;
};

struct HeadShape {
    std::int64_t rows, heads, head_dim;  ///< S, H, d
    std::int64_t text_rows;              ///< not rotated
};

/// y = rotate(x_hat weight + bias): pairs (p, q) become (p cos - q sin, q cos + p sin).
template <class T>
struct NormRotate {
    Heads<const T> x;
    const float *weight, *bias;  ///< [d]
    float eps;
    const float* rotation;  ///< [S - text_rows, d / 2, 2] cos, sin; or null
    Heads<T> y;
    float *mean, *rstd;  ///< [B, S, H], written
    HeadShape shape;
};
void run(const NormRotate<float>& a, std::int64_t begin, std::int64_t end);
void run(const NormRotate<Bfloat16>& a, std::int64_t begin, std::int64_t end);
template <class T>
void launch(const NormRotate<T>& a, std::int64_t rows, Stream stream);

/// The gradient of x from that of y.
template <class T>
struct NormRotateBackward {
    Heads<const T> grad, x;
    const float* weight;
    const float* rotation;
    const float *mean, *rstd;
    Heads<T> grad_x;
    HeadShape shape;
};
void run(const NormRotateBackward<float>& a, std::int64_t begin, std::int64_t end);
void run(const NormRotateBackward<Bfloat16>& a, std::int64_t begin, std::int64_t end);
template <class T>
void launch(const NormRotateBackward<T>& a, std::int64_t rows, Stream stream);

}  // namespace matrix::kernels::pass
