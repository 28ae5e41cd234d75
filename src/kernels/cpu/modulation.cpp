#include "kernels/pass/modulation.h"

#include "kernels/cpu/layer_norm.h"

namespace matrix::kernels::cpu {
namespace {

/// Where the values of a row's range begin.
MATRIX_CPU_INLINE std::int64_t values_of(pass::RowRanges r, std::int64_t row) {
    const std::int64_t batch = row / r.rows;
    const std::int64_t range = row - batch * r.rows < r.text_rows ? 0 : 1;
    return (2 * batch + range) * r.width;
}

template <class T>
MATRIX_CPU_INLINE void modulate(const T* x, const float* factor, const float* offset, Statistics s,
                                T* y, std::int64_t width) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
        store(y + i, (load(x + i) - s.mean) * s.rstd * factor[i] + offset[i]);
    }
}

template <class T>
MATRIX_CPU_INLINE void modulate_backward(const T* grad, const T* x, const float* factor,
                                         Statistics s, T* grad_x, std::int64_t width) {
    float sum = 0, projection = 0;
    for (std::int64_t i = 0; i < width; ++i) {
        const float g = load(grad + i) * factor[i];
        sum += g;
        projection += g * (load(x + i) - s.mean);
    }
    const NormBackward b = norm_backward(s, sum, projection, width);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
        store(grad_x + i, b(load(grad + i) * factor[i], load(x + i)));
    }
}

template <class T>
MATRIX_CPU_INLINE void forward(const pass::NormModulate<T>& a, std::int64_t begin,
                               std::int64_t end) {
    const std::int64_t width = a.ranges.width;
    for (std::int64_t row = begin; row < end; ++row) {
        const T* x = a.x + row * width;
        const Statistics s = statistics(x, width, a.eps);
        a.mean[row] = s.mean;
        a.rstd[row] = s.rstd;
        const std::int64_t values = values_of(a.ranges, row);
        modulate(x, a.factor + values, a.offset + values, s, a.y + row * width, width);
    }
}

template <class T>
MATRIX_CPU_INLINE void backward(const pass::NormModulateBackward<T>& a, std::int64_t begin,
                                std::int64_t end) {
    const std::int64_t width = a.ranges.width;
    for (std::int64_t row = begin; row < end; ++row) {
        modulate_backward(a.grad + row * width, a.x + row * width,
                          a.factor + values_of(a.ranges, row), {a.mean[row], a.rstd[row]},
                          a.grad_x + row * width, width);
    }
}

template <class T>
MATRIX_CPU_INLINE void add(const T* x, const T* y, const float* gate, T* out, std::int64_t width) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
        store(out + i, load(x + i) + gate[i] * load(y + i));
    }
}

template <class T>
MATRIX_CPU_INLINE void multiply(const T* y, const float* gate, T* out, std::int64_t width) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
        store(out + i, gate[i] * load(y + i));
    }
}

template <class T>
MATRIX_CPU_INLINE void gated(const pass::AddGated<T>& a, std::int64_t begin, std::int64_t end) {
    const std::int64_t width = a.ranges.width;
    for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t at = row * width;
        const float* gate = a.gate + values_of(a.ranges, row);
        if (a.x != nullptr) {
            add(a.x + at, a.y + at, gate, a.out + at, width);
        } else {
            multiply(a.y + at, gate, a.out + at, width);
        }
    }
}

}  // namespace
}  // namespace matrix::kernels::cpu

namespace matrix::kernels::pass {

MATRIX_CPU_CLONES void run(const NormModulate<float>& a, std::int64_t begin, std::int64_t end) {
    cpu::forward(a, begin, end);
}
MATRIX_CPU_CLONES void run(const NormModulate<Bfloat16>& a, std::int64_t begin, std::int64_t end) {
    cpu::forward(a, begin, end);
}
MATRIX_CPU_CLONES void run(const NormModulateBackward<float>& a, std::int64_t begin,
                           std::int64_t end) {
    cpu::backward(a, begin, end);
}
MATRIX_CPU_CLONES void run(const NormModulateBackward<Bfloat16>& a, std::int64_t begin,
                           std::int64_t end) {
    cpu::backward(a, begin, end);
}
MATRIX_CPU_CLONES void run(const AddGated<float>& a, std::int64_t begin, std::int64_t end) {
    cpu::gated(a, begin, end);
}
MATRIX_CPU_CLONES void run(const AddGated<Bfloat16>& a, std::int64_t begin, std::int64_t end) {
    cpu::gated(a, begin, end);
}

}  // namespace matrix::kernels::pass
