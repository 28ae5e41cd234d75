#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/pass/element.h"

// What the kernels of this folder are made of. They are CUDA C++ for sm_80 and later, and include
// nothing of LibTorch. All of a block's threads are in a row, in whole warps.

namespace matrix::kernels::cuda {

using pass::Bfloat16;

constexpr int kWarp = 32, kMostThreads = 256;
constexpr unsigned kAllLanes = 0xffffffff;

/// Elements of one access of 16 bytes.
template <class T>
constexpr int kWide = 16 / sizeof(T);

__device__ __forceinline__ float load(const float* from) {
    return *from;
}
__device__ __forceinline__ float load(const Bfloat16* from) {
    return __uint_as_float(static_cast<unsigned>(*from) << 16);
}
__device__ __forceinline__ void store(float* to, float value) {
    *to = value;
}
__device__ __forceinline__ void store(Bfloat16* to, float value) {
    *to = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

__device__ __forceinline__ void load_wide(const float* from, float* to) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
__device__ __forceinline__ void load_wide(const Bfloat16* from, float* to) {
    const uint4 v = *reinterpret_cast<const uint4*>(from);
    const unsigned words[] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; ++i) {
        to[2 * i] = __uint_as_float(words[i] << 16);
        to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000);
    }
}
__device__ __forceinline__ void store_wide(float* to, const float* from) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}
__device__ __forceinline__ void store_wide(Bfloat16* to, const float* from) {
    unsigned words[4];
    for (int i = 0; i < 4; ++i) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
        words[i] = __bfloat16_as_ushort(pair.x) |
                   static_cast<unsigned>(__bfloat16_as_ushort(pair.y)) << 16;
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

/// kCount elements side by side; whole 16 bytes of them lie at multiples of 16 bytes.
template <int kCount, class T>
__device__ __forceinline__ void load(const T* from, float (&to)[kCount]) {
    if constexpr (kCount % kWide<T> == 0) {
        for (int i = 0; i < kCount; i += kWide<T>) {
            load_wide(from + i, to + i);
        }
    } else {
        for (int i = 0; i < kCount; ++i) {
            to[i] = load(from + i);
        }
    }
}
template <int kCount, class T>
__device__ __forceinline__ void store(T* to, const float (&from)[kCount]) {
    if constexpr (kCount % kWide<T> == 0) {
        for (int i = 0; i < kCount; i += kWide<T>) {
            store_wide(to + i, from + i);
        }
    } else {
        for (int i = 0; i < kCount; ++i) {
            store(to + i, from[i]);
        }
    }
}

/// Calls visit(i) for every kCount elements of a row that are this thread's.
template <int kCount, class Visit>
__device__ __forceinline__ void for_own(std::int64_t width, Visit visit) {
    for (int i = static_cast<int>(threadIdx.x) * kCount; i < static_cast<int>(width);
         i += static_cast<int>(blockDim.x) * kCount) {
        visit(i);
    }
}

/// The sum over the `lanes` neighbouring lanes, a power of two, that a lane belongs to.
template <class Value>
__device__ __forceinline__ Value lanes_sum(Value value, int lanes) {
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
        value += __shfl_xor_sync(kAllLanes, value, offset);
    }
    return value;
}

/// Sums over the block, the same in all its threads: always added in the same order.
template <int kCount, class Value>
__device__ __forceinline__ void block_sum(Value (&values)[kCount]) {
    for (Value& value : values) {
        value = lanes_sum(value, kWarp);
    }
    if (blockDim.x == kWarp) {
        return;
    }
    __shared__ Value of_warps[kCount][kMostThreads / kWarp];
    const int warp = threadIdx.x / kWarp;
    __syncthreads();  // what an earlier sum has left here is read
    if (threadIdx.x % kWarp == 0) {
        for (int i = 0; i < kCount; ++i) {
            of_warps[i][warp] = values[i];
        }
    }
    __syncthreads();
    for (int i = 0; i < kCount; ++i) {
        values[i] = 0;
        for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) {
            values[i] += of_warps[i][w];
        }
    }
}

/// Threads for `items` in equal turns.
inline int threads_for(std::int64_t items) {
    const std::int64_t turns = items / kMostThreads + (items % kMostThreads != 0 ? 1 : 0);
    const std::int64_t each = turns > 1 ? (items + turns - 1) / turns : items;
    return static_cast<int>(each > 0 ? (each + kWarp - 1) / kWarp * kWarp : kWarp);
}

/// Whether all pointers, null among them, are multiples of 16 bytes.
template <class... Pointers>
bool are_wide(Pointers... pointers) {
    return ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

/// Calls visit(integral_constant) with kWide<T> or, where that does not fit, `narrow`.
template <class T, int narrow = 1, class Visit>
void with_count(bool is_wide, Visit visit) {
    if (is_wide) {
        visit(std::integral_constant<int, kWide<T>>());
    } else {
        visit(std::integral_constant<int, narrow>());
    }
}

/// Queues blocks of the kernel, none for none.
template <class Arguments>
void start(void (*kernel)(Arguments), std::int64_t blocks, int threads, pass::Stream stream,
           const Arguments& arguments) {
    if (blocks == 0) {
        return;
    }
    if (blocks > std::numeric_limits<int>::max()) {
        throw std::runtime_error("more blocks than a CUDA grid has: " + std::to_string(blocks));
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.stream = stream;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments);
    if (error != cudaSuccess) {
        throw std::runtime_error(std::string("a CUDA kernel was not started: ") +
                                 cudaGetErrorString(error));
    }
}

}  // namespace matrix::kernels::cuda
