#include "kernels/pass/modulation.h"

#include "kernels/cuda/layer_norm.cuh"

// A block a row. What a row is read for again is in the nearest cache by then.

namespace matrix::kernels::cuda {
namespace {

/// Where the values of a row's range begin.
__device__ __forceinline__ std::int64_t values_of(pass::RowRanges r, std::int64_t row) {
    // In 32 bits, since division in 64 takes longer than what a thread does besides.
    const auto rows = static_cast<unsigned>(r.rows), batch = static_cast<unsigned>(row) / rows;
    const int range = static_cast<unsigned>(row) - batch * rows < r.text_rows ? 0 : 1;
    return (2 * static_cast<std::int64_t>(batch) + range) * r.width;
}

template <int kCount, class T>
__device__ __forceinline__ Statistics statistics(const T* x, int width, float eps) {
    float v[kCount], sum[1] = {0}, squares[1] = {0};
    for_own<kCount>(width, [&](int i) {
        load(x + i, v);
        for (const float value : v) {
            sum[0] += value;
        }
    });
    block_sum(sum);
    const float mean = sum[0] / static_cast<float>(width);
    for_own<kCount>(width, [&](int i) {
        load(x + i, v);
        for (const float value : v) {
            squares[0] += (value - mean) * (value - mean);
        }
    });
    block_sum(squares);
    return {mean, 1 / sqrtf(squares[0] / static_cast<float>(width) + eps)};
}

template <class T, int kCount>
__global__ void norm_modulate(pass::NormModulate<T> a) {
    const std::int64_t row = blockIdx.x;
    const int width = static_cast<int>(a.ranges.width);
    const T* x = a.x + row * width;
    const Statistics s = statistics<kCount>(x, width, a.eps);
    if (threadIdx.x == 0) {
        a.mean[row] = s.mean;
        a.rstd[row] = s.rstd;
    }
    const std::int64_t values = values_of(a.ranges, row);
    for_own<kCount>(width, [&](int i) {
        float v[kCount], factor[kCount], offset[kCount];
        load(x + i, v);
        load(a.factor + values + i, factor);
        load(a.offset + values + i, offset);
        for (int k = 0; k < kCount; ++k) {
            v[k] = (v[k] - s.mean) * s.rstd * factor[k] + offset[k];
        }
        store(a.y + row * width + i, v);
    });
}

template <class T, int kCount>
__global__ void norm_modulate_backward(pass::NormModulateBackward<T> a) {
    const std::int64_t row = blockIdx.x;
    const int width = static_cast<int>(a.ranges.width);
    const T *x = a.x + row * width, *grad = a.grad + row * width;
    const float* factors = a.factor + values_of(a.ranges, row);
    const Statistics s = {a.mean[row], a.rstd[row]};
    float v[kCount], g[kCount], factor[kCount], sums[2] = {0, 0};
    const auto load_all = [&](int i) {
        load(x + i, v);
        load(grad + i, g);
        load(factors + i, factor);
        for (int k = 0; k < kCount; ++k) {
            g[k] *= factor[k];
        }
    };
    for_own<kCount>(width, [&](int i) {
        load_all(i);
        for (int k = 0; k < kCount; ++k) {
            sums[0] += g[k];
            sums[1] += g[k] * (v[k] - s.mean);
        }
    });
    block_sum(sums);
    const NormBackward b(s, sums[0], sums[1], width);
    for_own<kCount>(width, [&](int i) {
        load_all(i);
        for (int k = 0; k < kCount; ++k) {
            v[k] = b(g[k], v[k]);
        }
        store(a.grad_x + row * width + i, v);
    });
}

template <class T, int kCount>
__global__ void add_gated(pass::AddGated<T> a) {
    const std::int64_t row = blockIdx.x;
    const int width = static_cast<int>(a.ranges.width);
    const float* gates = a.gate + values_of(a.ranges, row);
    for_own<kCount>(width, [&](int i) {
        float x[kCount] = {}, y[kCount], gate[kCount];
        if (a.x != nullptr) {
            load(a.x + row * width + i, x);
        }
        load(a.y + row * width + i, y);
        load(gates + i, gate);
        for (int k = 0; k < kCount; ++k) {
            x[k] += gate[k] * y[k];
        }
        store(a.out + row * width + i, x);
    });
}

}  // namespace
}  // namespace matrix::kernels::cuda

namespace matrix::kernels::pass {

template <class T>
void launch(const NormModulate<T>& a, std::int64_t rows, Stream stream) {
    const std::int64_t width = a.ranges.width;
    const bool is_wide =
        width % cuda::kWide<T> == 0 && cuda::are_wide(a.x, a.factor, a.offset, a.y);
    cuda::with_count<T>(is_wide, [&](auto count) {
        constexpr int kCount = decltype(count)::value;
        cuda::start(cuda::norm_modulate<T, kCount>, rows, cuda::threads_for(width / kCount), stream,
                    a);
    });
}

template <class T>
void launch(const NormModulateBackward<T>& a, std::int64_t rows, Stream stream) {
    const std::int64_t width = a.ranges.width;
    const bool is_wide =
        width % cuda::kWide<T> == 0 && cuda::are_wide(a.grad, a.x, a.factor, a.grad_x);
    cuda::with_count<T>(is_wide, [&](auto count) {
        constexpr int kCount = decltype(count)::value;
        cuda::start(cuda::norm_modulate_backward<T, kCount>, rows,
                    cuda::threads_for(width / kCount), stream, a);
    });
}

template <class T>
void launch(const AddGated<T>& a, std::int64_t rows, Stream stream) {
    const std::int64_t width = a.ranges.width;
    const bool is_wide = width % cuda::kWide<T> == 0 && cuda::are_wide(a.x, a.y, a.gate, a.out);
    cuda::with_count<T>(is_wide, [&](auto count) {
        constexpr int kCount = decltype(count)::value;
        cuda::start(cuda::add_gated<T, kCount>, rows, cuda::threads_for(width / kCount), stream, a);
    });
}

template void launch(const NormModulate<float>&, std::int64_t, Stream);
template void launch(const NormModulate<Bfloat16>&, std::int64_t, Stream);
template void launch(const NormModulateBackward<float>&, std::int64_t, Stream);
template void launch(const NormModulateBackward<Bfloat16>&, std::int64_t, Stream);
template void launch(const AddGated<float>&, std::int64_t, Stream);
template void launch(const AddGated<Bfloat16>&, std::int64_t, Stream);

}  // namespace matrix::kernels::pass
