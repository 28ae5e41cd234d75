#include "kernels/pass/norm_rotate.h"

#include "kernels/cuda/layer_norm.cuh"

// A head's row is done by the fewest neighbouring lanes, a power of two, that have it in one turn.
// What it is read for again is in the nearest cache by then.

namespace matrix::kernels::cuda {
namespace {

template <class Arguments>
struct OverLanes {
    Arguments pass;
    unsigned count;  ///< of heads' rows
    int lanes_log2;  ///< of one of them
};

/// One head's row, and what of it is a lane's. Lanes beyond the last row go with it, since all of a
/// warp's must take part in its sums, and store nothing.
struct Place {
    unsigned index, batch, row, head;
    int first, stride;  ///< channels; as many as a lane takes at a time follow each
    bool exists;
};

template <int kCount, class Arguments>
__device__ __forceinline__ Place place_of(const OverLanes<Arguments>& a) {
    // In 32 bits, since divisions in 64 take longer than reading the row.
    const auto heads = static_cast<unsigned>(a.pass.shape.heads),
               rows = static_cast<unsigned>(a.pass.shape.rows);
    Place place{};
    place.index = blockIdx.x * (blockDim.x >> a.lanes_log2) + (threadIdx.x >> a.lanes_log2);
    place.exists = place.index < a.count;
    if (!place.exists) {
        place.index = a.count - 1;
    }
    const unsigned joint_row = place.index / heads;
    place.head = place.index - joint_row * heads;
    place.batch = joint_row / rows;
    place.row = joint_row - place.batch * rows;
    const int lanes = 1 << a.lanes_log2;
    place.first = (static_cast<int>(threadIdx.x) & (lanes - 1)) * kCount;
    place.stride = lanes * kCount;
    return place;
}

template <class T>
__device__ __forceinline__ T* at(const pass::Heads<T>& x, const Place& p) {
    return x.data + p.batch * x.batch_stride + p.row * x.row_stride + p.head * x.head_stride;
}

/// Null where the row is not rotated.
__device__ __forceinline__ const float* rotation_of(const float* rotation, const pass::HeadShape& s,
                                                    const Place& p) {
    return rotation != nullptr && p.row >= s.text_rows
               ? rotation + (p.row - s.text_rows) * s.head_dim
               : nullptr;
}

template <int kCount, class Visit>
__device__ __forceinline__ void for_own(const Place& p, std::int64_t head_dim, Visit visit) {
    for (int i = p.first; i < static_cast<int>(head_dim); i += p.stride) {
        visit(i);
    }
}

/// Turns pairs (p, q) to (p cos - q sin, q cos + p sin); back with `sign` -1.
template <int kCount>
__device__ __forceinline__ void turn(float (&v)[kCount], const float* rotation, int i, float sign) {
    if constexpr (kCount % 2 == 0) {
        float r[kCount];
        load(rotation + i, r);
        for (int k = 0; k < kCount; k += 2) {
            const float p = v[k], q = v[k + 1], cosine = r[k], sine = sign * r[k + 1];
            v[k] = p * cosine - q * sine;
            v[k + 1] = q * cosine + p * sine;
        }
    }
}

template <int kCount, class T>
__device__ __forceinline__ Statistics statistics(const T* x, const Place& p, std::int64_t d,
                                                 float eps, int lanes) {
    float v[kCount], sum = 0, squares = 0;
    for_own<kCount>(p, d, [&](int i) {
        load(x + i, v);
        for (const float value : v) {
            sum += value;
        }
    });
    const float mean = lanes_sum(sum, lanes) / static_cast<float>(d);
    for_own<kCount>(p, d, [&](int i) {
        load(x + i, v);
        for (const float value : v) {
            squares += (value - mean) * (value - mean);
        }
    });
    return {mean, 1 / sqrtf(lanes_sum(squares, lanes) / static_cast<float>(d) + eps)};
}

template <class T, int kCount>
__global__ void forward(OverLanes<pass::NormRotate<T>> over) {
    const pass::NormRotate<T>& a = over.pass;
    const Place p = place_of<kCount>(over);
    const T* x = at(a.x, p);
    const Statistics s = statistics<kCount>(x, p, a.shape.head_dim, a.eps, 1 << over.lanes_log2);
    if (!p.exists) {
        return;
    }
    if (p.first == 0) {
        a.mean[p.index] = s.mean;
        a.rstd[p.index] = s.rstd;
    }
    const float* rotation = rotation_of(a.rotation, a.shape, p);
    for_own<kCount>(p, a.shape.head_dim, [&](int i) {
        float v[kCount], weight[kCount], bias[kCount];
        load(x + i, v);
        load(a.weight + i, weight);
        load(a.bias + i, bias);
        for (int k = 0; k < kCount; ++k) {
            v[k] = (v[k] - s.mean) * s.rstd * weight[k] + bias[k];
        }
        if (rotation != nullptr) {
            turn(v, rotation, i, 1);
        }
        store(at(a.y, p) + i, v);
    });
}

template <class T, int kCount>
__global__ void backward(OverLanes<pass::NormRotateBackward<T>> over) {
    const pass::NormRotateBackward<T>& a = over.pass;
    const Place p = place_of<kCount>(over);
    const T *x = at(a.x, p), *grad = at(a.grad, p);
    const float* rotation = rotation_of(a.rotation, a.shape, p);
    const Statistics s = {a.mean[p.index], a.rstd[p.index]};
    const std::int64_t d = a.shape.head_dim;
    float v[kCount], g[kCount], weight[kCount], sum = 0, projection = 0;
    const auto load_all = [&](int i) {
        load(x + i, v);
        load(grad + i, g);
        load(a.weight + i, weight);
        if (rotation != nullptr) {
            turn(g, rotation, i, -1);
        }
        for (int k = 0; k < kCount; ++k) {
            g[k] *= weight[k];
        }
    };
    for_own<kCount>(p, d, [&](int i) {
        load_all(i);
        for (int k = 0; k < kCount; ++k) {
            sum += g[k];
            projection += g[k] * (v[k] - s.mean);
        }
    });
    sum = lanes_sum(sum, 1 << over.lanes_log2);
    projection = lanes_sum(projection, 1 << over.lanes_log2);
    if (!p.exists) {
        return;
    }
    const NormBackward b(s, sum, projection, static_cast<int>(d));
    for_own<kCount>(p, d, [&](int i) {
        load_all(i);
        for (int k = 0; k < kCount; ++k) {
            v[k] = b(g[k], v[k]);
        }
        store(at(a.grad_x, p) + i, v);
    });
}

template <class T>
bool are_wide_heads(const pass::Heads<T>& x) {
    constexpr int kCount = kWide<std::remove_const_t<T>>;
    return are_wide(x.data) && x.batch_stride % kCount == 0 && x.row_stride % kCount == 0 &&
           x.head_stride % kCount == 0;
}

template <int kCount, class Arguments>
void start_over_lanes(void (*kernel)(OverLanes<Arguments>), const Arguments& a, std::int64_t rows,
                      pass::Stream stream) {
    int lanes_log2 = 0;
    while ((1 << lanes_log2) < kWarp && (kCount << lanes_log2) < a.shape.head_dim) {
        ++lanes_log2;
    }
    const std::int64_t count = rows * a.shape.heads, in_block = kMostThreads >> lanes_log2;
    if (count > std::numeric_limits<int>::max()) {
        throw std::runtime_error("more rows of heads than the kernel counts: " +
                                 std::to_string(count));
    }
    start(kernel, (count + in_block - 1) / in_block, kMostThreads, stream,
          OverLanes<Arguments>{a, static_cast<unsigned>(count), lanes_log2});
}

/// Calls visit(integral_constant) with the elements that a lane takes at a time: whole pairs where
/// there is a rotation.
template <class T, class Arguments, class Visit>
void with_lane_count(const Arguments& a, bool is_wide, Visit visit) {
    if (is_wide && a.shape.head_dim % kWide<T> == 0 && are_wide(a.weight, a.rotation)) {
        visit(std::integral_constant<int, kWide<T>>());
    } else if (a.rotation != nullptr) {
        visit(std::integral_constant<int, 2>());
    } else {
        visit(std::integral_constant<int, 1>());
    }
}

}  // namespace
}  // namespace matrix::kernels::cuda

namespace matrix::kernels::pass {

template <class T>
void launch(const NormRotate<T>& a, std::int64_t rows, Stream stream) {
    const bool is_wide =
        cuda::are_wide_heads(a.x) && cuda::are_wide_heads(a.y) && cuda::are_wide(a.bias);
    cuda::with_lane_count<T>(a, is_wide, [&](auto count) {
        constexpr int kCount = decltype(count)::value;
        cuda::start_over_lanes<kCount>(cuda::forward<T, kCount>, a, rows, stream);
    });
}

template <class T>
void launch(const NormRotateBackward<T>& a, std::int64_t rows, Stream stream) {
    const bool is_wide =
        cuda::are_wide_heads(a.grad) && cuda::are_wide_heads(a.x) && cuda::are_wide_heads(a.grad_x);
    cuda::with_lane_count<T>(a, is_wide, [&](auto count) {
        constexpr int kCount = decltype(count)::value;
        cuda::start_over_lanes<kCount>(cuda::backward<T, kCount>, a, rows, stream);
    });
}

template void launch(const NormRotate<float>&, std::int64_t, Stream);
template void launch(const NormRotate<Bfloat16>&, std::int64_t, Stream);
template void launch(const NormRotateBackward<float>&, std::int64_t, Stream);
template void launch(const NormRotateBackward<Bfloat16>&, std::int64_t, Stream);

}  // namespace matrix::kernels::pass
