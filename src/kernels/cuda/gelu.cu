#include "kernels/pass/gelu.h"

#include "kernels/cuda/device.cuh"

// A block a row.

namespace matrix::kernels::cuda {
namespace {

// (1 + tanh u) / 2 = 1 / (1 + exp(-2u)), which loses nothing where tanh u is near -1;
// u = sqrt(2 / pi) (x + c x^3).
constexpr float kTwiceRoot = 1.5957691216F, kCubic = 0.044715F;
// exp() of it is finite, and one more than it is not to be told from it.
constexpr float kLimit = 87;

__device__ __forceinline__ float exp_of_minus_2u(float x) {
    return expf(fminf(-kTwiceRoot * x * (1 + kCubic * x * x), kLimit));
}
__device__ __forceinline__ float gelu(float x) {
    return x / (1 + exp_of_minus_2u(x));
}
__device__ __forceinline__ float gelu_derivative(float x) {
    const float e = exp_of_minus_2u(x);
    const float s = 1 / (1 + e);
    return s + x * s * (e * s) * kTwiceRoot * (1 + 3 * kCubic * x * x);
}

/// x + bias, kCount of them at column i.
template <class T, int kCount>
__device__ __forceinline__ void load_biased(const T* x, const float* bias, int i,
                                            float (&v)[kCount]) {
    load(x + i, v);
    if (bias != nullptr) {
        float b[kCount];
        load(bias + i, b);
        for (int k = 0; k < kCount; ++k) {
            v[k] += b[k];
        }
    }
}

template <class T, int kCount>
__global__ void forward(pass::Gelu<T> a) {
    const std::int64_t begin = blockIdx.x * a.width;
    for_own<kCount>(a.width, [&](int i) {
        float v[kCount];
        load_biased(a.x + begin, a.bias, i, v);
        for (float& value : v) {
            value = gelu(value);
        }
        store(a.y + begin + i, v);
    });
}

template <class T, int kCount>
__global__ void backward(pass::GeluBackward<T> a) {
    const std::int64_t begin = blockIdx.x * a.width;
    for_own<kCount>(a.width, [&](int i) {
        float v[kCount], grad[kCount];
        load_biased(a.x + begin, a.bias, i, v);
        load(a.grad + begin + i, grad);
        for (int k = 0; k < kCount; ++k) {
            grad[k] *= gelu_derivative(v[k]);
        }
        store(a.grad + begin + i, grad);
    });
}

}  // namespace
}  // namespace matrix::kernels::cuda

namespace matrix::kernels::pass {

template <class T>
void launch(const Gelu<T>& a, std::int64_t rows, Stream stream) {
    cuda::with_count<T>(a.width % cuda::kWide<T> == 0 && cuda::are_wide(a.x, a.bias, a.y),
                        [&](auto count) {
                            constexpr int kCount = decltype(count)::value;
                            cuda::start(cuda::forward<T, kCount>, rows,
                                        cuda::threads_for(a.width / kCount), stream, a);
                        });
}

template <class T>
void launch(const GeluBackward<T>& a, std::int64_t rows, Stream stream) {
    cuda::with_count<T>(a.width % cuda::kWide<T> == 0 && cuda::are_wide(a.x, a.bias, a.grad),
                        [&](auto count) {
                            constexpr int kCount = decltype(count)::value;
                            cuda::start(cuda::backward<T, kCount>, rows,
                                        cuda::threads_for(a.width / kCount), stream, a);
                        });
}

template void launch(const Gelu<float>&, std::int64_t, Stream);
template void launch(const Gelu<Bfloat16>&, std::int64_t, Stream);
template void launch(const GeluBackward<float>&, std::int64_t, Stream);
template void launch(const GeluBackward<Bfloat16>&, std::int64_t, Stream);

}  // namespace matrix::kernels::pass
