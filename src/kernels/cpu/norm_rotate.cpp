#include "kernels/pass/norm_rotate.h"

#include "kernels/cpu/layer_norm.h"

namespace matrix::kernels::cpu {
namespace {

/// Of every published CogVideoX. Loops of a length that the compiler knows take a third less time.
constexpr std::int64_t kUsualHeadDim = 64;

template <class T>
MATRIX_CPU_INLINE T* row_of(const pass::Heads<T>& x, std::int64_t rows, std::int64_t row) {
    const std::int64_t batch = row / rows;
    return x.data + batch * x.batch_stride + (row - batch * rows) * x.row_stride;
}

/// Null where the row is not rotated.
MATRIX_CPU_INLINE const float* rotation_of(const float* rotation, const pass::HeadShape& s,
                                           std::int64_t row) {
    const std::int64_t video_row = row % s.rows - s.text_rows;
    return rotation != nullptr && video_row >= 0 ? rotation + video_row * s.head_dim : nullptr;
}

template <class T>
MATRIX_CPU_INLINE void head_forward(const T* x, const float* weight, const float* bias,
                                    const float* rotation, Statistics s, T* y, std::int64_t d) {
    if (rotation == nullptr) {
#pragma omp simd
        for (std::int64_t i = 0; i < d; ++i) {
            store(y + i, (load(x + i) - s.mean) * s.rstd * weight[i] + bias[i]);
        }
        return;
    }
#pragma omp simd
    for (std::int64_t i = 0; i < d; i += 2) {
        const float p = (load(x + i) - s.mean) * s.rstd * weight[i] + bias[i];
        const float q = (load(x + i + 1) - s.mean) * s.rstd * weight[i + 1] + bias[i + 1];
        store(y + i, p * rotation[i] - q * rotation[i + 1]);
        store(y + i + 1, q * rotation[i] + p * rotation[i + 1]);
    }
}

/// The gradients of a pair of x_hat: turned back, times the weight.
struct Pair {
    float p, q;
};
template <class T>
MATRIX_CPU_INLINE Pair turned_back(const T* grad, const float* weight, const float* rotation,
                                   std::int64_t i) {
    const float p = load(grad + i), q = load(grad + i + 1);
    return {(p * rotation[i] + q * rotation[i + 1]) * weight[i],
            (q * rotation[i] - p * rotation[i + 1]) * weight[i + 1]};
}

template <class T>
MATRIX_CPU_INLINE void head_backward(const T* grad, const T* x, const float* weight,
                                     const float* rotation, Statistics s, T* grad_x,
                                     std::int64_t d) {
    float sum = 0, projection = 0;
    if (rotation == nullptr) {
        for (std::int64_t i = 0; i < d; ++i) {
            const float g = load(grad + i) * weight[i];
            sum += g;
            projection += g * (load(x + i) - s.mean);
        }
        const NormBackward b = norm_backward(s, sum, projection, d);
#pragma omp simd
        for (std::int64_t i = 0; i < d; ++i) {
            store(grad_x + i, b(load(grad + i) * weight[i], load(x + i)));
        }
        return;
    }
    for (std::int64_t i = 0; i < d; i += 2) {
        const Pair g = turned_back(grad, weight, rotation, i);
        sum += g.p + g.q;
        projection += g.p * (load(x + i) - s.mean) + g.q * (load(x + i + 1) - s.mean);
    }
    const NormBackward b = norm_backward(s, sum, projection, d);
#pragma omp simd
    for (std::int64_t i = 0; i < d; i += 2) {
        const Pair g = turned_back(grad, weight, rotation, i);
        store(grad_x + i, b(g.p, load(x + i)));
        store(grad_x + i + 1, b(g.q, load(x + i + 1)));
    }
}

template <class T>
MATRIX_CPU_INLINE void forward(const pass::NormRotate<T>& a, std::int64_t d, std::int64_t begin,
                               std::int64_t end) {
    const pass::HeadShape shape = a.shape;
    for (std::int64_t row = begin; row < end; ++row) {
        const T* x = row_of(a.x, shape.rows, row);
        T* y = row_of(a.y, shape.rows, row);
        const float* rotation = rotation_of(a.rotation, shape, row);
        for (std::int64_t head = 0; head < shape.heads; ++head) {
            const Statistics s = statistics(x + head * a.x.head_stride, d, a.eps);
            a.mean[row * shape.heads + head] = s.mean;
            a.rstd[row * shape.heads + head] = s.rstd;
            head_forward(x + head * a.x.head_stride, a.weight, a.bias, rotation, s,
                         y + head * a.y.head_stride, d);
        }
    }
}

template <class T>
MATRIX_CPU_INLINE void backward(const pass::NormRotateBackward<T>& a, std::int64_t d,
                                std::int64_t begin, std::int64_t end) {
    const pass::HeadShape shape = a.shape;
    for (std::int64_t row = begin; row < end; ++row) {
        const T* grad = row_of(a.grad, shape.rows, row);
        const T* x = row_of(a.x, shape.rows, row);
        T* grad_x = row_of(a.grad_x, shape.rows, row);
        const float* rotation = rotation_of(a.rotation, shape, row);
        for (std::int64_t head = 0; head < shape.heads; ++head) {
            const std::int64_t kept = row * shape.heads + head;
            head_backward(grad + head * a.grad.head_stride, x + head * a.x.head_stride, a.weight,
                          rotation, {a.mean[kept], a.rstd[kept]},
                          grad_x + head * a.grad_x.head_stride, d);
        }
    }
}

template <class T>
MATRIX_CPU_INLINE void of_known_length(const pass::NormRotate<T>& a, std::int64_t begin,
                                       std::int64_t end) {
    if (a.shape.head_dim == kUsualHeadDim) {
        forward(a, kUsualHeadDim, begin, end);
    } else {
        forward(a, a.shape.head_dim, begin, end);
    }
}

template <class T>
MATRIX_CPU_INLINE void of_known_length(const pass::NormRotateBackward<T>& a, std::int64_t begin,
                                       std::int64_t end) {
    if (a.shape.head_dim == kUsualHeadDim) {
        backward(a, kUsualHeadDim, begin, end);
    } else {
        backward(a, a.shape.head_dim, begin, end);
    }
}

}  // namespace
}  // namespace matrix::kernels::cpu

namespace matrix::kernels::pass {

MATRIX_CPU_CLONES void run(const NormRotate<float>& a, std::int64_t begin, std::int64_t end) {
    cpu::of_known_length(a, begin, end);
}
MATRIX_CPU_CLONES void run(const NormRotate<Bfloat16>& a, std::int64_t begin, std::int64_t end) {
    cpu::of_known_length(a, begin, end);
}
MATRIX_CPU_CLONES void run(const NormRotateBackward<float>& a, std::int64_t begin,
                           std::int64_t end) {
    cpu::of_known_length(a, begin, end);
}
MATRIX_CPU_CLONES void run(const NormRotateBackward<Bfloat16>& a, std::int64_t begin,
                           std::int64_t end) {
    cpu::of_known_length(a, begin, end);
}

}  // namespace matrix::kernels::pass
