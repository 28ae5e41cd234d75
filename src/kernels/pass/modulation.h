#pragma once

#include "kernels/pass/element.h"

// The B S rows of a contiguous [B, S, width] buffer whose first `text_rows` of every S are text.
// Values that differ by range are float32 [B, 2, width]: text, video. No sum crosses a row, so that
// results depend on no split of the rows. T is float or Bfloat16.

namespace matrix::kernels::pass {

struct RowRanges {
    std::int64_t rows, text_rows, width;  ///< of one of the B
};

/// y = (x - mean) rstd factor + offset. Writes y and the statistics [B, S].
template <class T>
struct NormModulate {
    const T* x;
    const float *factor, *offset;
    float eps;
    T* y;
    float *mean, *rstd;
    RowRanges ranges;
};
void run(const NormModulate<float>& a, std::int64_t begin, std::int64_t end);
void run(const NormModulate<Bfloat16>& a, std::int64_t begin, std::int64_t end);
template <class T>
void launch(const NormModulate<T>& a, std::int64_t rows, Stream stream);

/// The gradient of x from that of y.
template <class T>
struct NormModulateBackward {
    const T *grad, *x;
    const float *factor, *mean, *rstd;
    T* grad_x;
    RowRanges ranges;
};
void run(const NormModulateBackward<float>& a, std::int64_t begin, std::int64_t end);
void run(const NormModulateBackward<Bfloat16>& a, std::int64_t begin, std::int64_t end);
template <class T>
void launch(const NormModulateBackward<T>& a, std::int64_t rows, Stream stream);

/// out = x + gate y; without x, gate y.
template <class T>
struct AddGated {
    const T *x, *y;
    const float* gate;
    T* out;
    RowRanges ranges;
};
void run(const AddGated<float>& a, std::int64_t begin, std::int64_t end);
void run(const AddGated<Bfloat16>& a, std::int64_t begin, std::int64_t end);
template <class T>
void launch(const AddGated<T>& a, std::int64_t rows, Stream stream);

}  // namespace matrix::kernels::pass
