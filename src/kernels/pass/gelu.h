#pragma once

#include "kernels/pass/element.h"

// GELU with the tanh approximation over contiguous [rows, width]. T is float or Bfloat16.

namespace matrix::kernels::pass {

/// y = gelu(x + bias), without bias gelu(x); y may be x.
template <class T>
struct Gelu {
    const T* x;
    const float* bias;  ///< [width] or null
    T* y;
    std::int64_t width;
};
void run(const Gelu<float>& a, std::int64_t begin, std::int64_t end);
void run(const Gelu<Bfloat16>& a, std::int64_t begin, std::int64_t end);
template <class T>
void launch(const Gelu<T>& a, std::int64_t rows, Stream stream);

/// grad *= gelu'(x + bias), in place.
template <class T>
struct GeluBackward {
    const T* x;
    const float* bias;  ///< [width] or null
    T* grad;
    std::int64_t width;
};
void run(const GeluBackward<float>& a, std::int64_t begin, std::int64_t end);
void run(const GeluBackward<Bfloat16>& a, std::int64_t begin, std::int64_t end);
template <class T>
void launch(const GeluBackward<T>& a, std::int64_t rows, Stream stream);

}  // namespace matrix::kernels::pass
