#include "kernels/pass/gelu.h"

#include "kernels/cpu/exp.h"

namespace matrix::kernels::cpu {
namespace {

// (1 + tanh u) / 2 = 1 / (1 + exp(-2u)), which loses nothing where tanh u is near -1;
// u = sqrt(2 / pi) (x + c x^3).
constexpr float kTwiceRoot = 1.5957691216F;
constexpr float kCubic = 0.044715F;

MATRIX_CPU_INLINE float gelu(float x) {
    return x / (1 + exp(-kTwiceRoot * x * (1 + kCubic * x * x)));
}

MATRIX_CPU_INLINE float gelu_derivative(float x) {
    const float e = exp(-kTwiceRoot * x * (1 + kCubic * x * x));
    const float s = 1 / (1 + e);
    return s + x * s * (e * s) * kTwiceRoot * (1 + 3 * kCubic * x * x);
}

template <class T>
MATRIX_CPU_INLINE void forward_row(const T* x, const float* bias, T* y, std::int64_t width) {
    if (bias == nullptr) {
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            store(y + i, gelu(load(x + i)));
        }
        return;
    }
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
        store(y + i, gelu(load(x + i) + bias[i]));
    }
}

template <class T>
MATRIX_CPU_INLINE void backward_row(const T* x, const float* bias, T* grad, std::int64_t width) {
    if (bias == nullptr) {
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            store(grad + i, load(grad + i) * gelu_derivative(load(x + i)));
        }
        return;
    }
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
        store(grad + i, load(grad + i) * gelu_derivative(load(x + i) + bias[i]));
    }
}

template <class T>
MATRIX_CPU_INLINE void forward(const pass::Gelu<T>& a, std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
        forward_row(a.x + row * a.width, a.bias, a.y + row * a.width, a.width);
    }
}

template <class T>
MATRIX_CPU_INLINE void backward(const pass::GeluBackward<T>& a, std::int64_t begin,
                                std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
        backward_row(a.x + row * a.width, a.bias, a.grad + row * a.width, a.width);
    }
}

}  // namespace
}  // namespace matrix::kernels::cpu

namespace matrix::kernels::pass {

MATRIX_CPU_CLONES void run(const Gelu<float>& a, std::int64_t begin, std::int64_t end) {
    cpu::forward(a, begin, end);
}
MATRIX_CPU_CLONES void run(const Gelu<Bfloat16>& a, std::int64_t begin, std::int64_t end) {
    cpu::forward(a, begin, end);
}
MATRIX_CPU_CLONES void run(const GeluBackward<float>& a, std::int64_t begin, std::int64_t end) {
    cpu::backward(a, begin, end);
}
MATRIX_CPU_CLONES void run(const GeluBackward<Bfloat16>& a, std::int64_t begin, std::int64_t end) {
    cpu::backward(a, begin, end);
}

}  // namespace matrix::kernels::pass
