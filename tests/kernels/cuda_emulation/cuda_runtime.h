#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

// In the place of CUDA's own header, for g++ to compile the kernels of src/kernels/cuda as they
// are: a block's threads take turns on one thread of the CPU, changing places where they wait for
// each other, and blocks run one after another. Only what those kernels use is here.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static  // of the only block there is at a time

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}
inline float __uint_as_float(unsigned bits) {
    return std::bit_cast<float>(bits);
}

struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidConfiguration };
inline const char* cudaGetErrorString(cudaError_t) {
    return "invalid configuration argument";
}
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
};

namespace matrix::cuda_emulation {

/// Runs `thread(context)` for every thread of every block of one dimension. std::logic_error where
/// threads wait for some that never come.
void run_grid(dim3 grid, dim3 block, void (*thread)(const void*), const void* context);
/// Called by a thread: comes back when all of its block, or of its warp, have called it.
void wait_for_block();
void wait_for_warp();
/// Called by all threads of a warp: what the lane `lane ^ offset` has given, of at most 8 bytes.
std::uint64_t exchange(std::uint64_t value, unsigned offset);
/// How many grids have run in this process.
std::int64_t launches();

}  // namespace matrix::cuda_emulation

inline void __syncthreads() {
    matrix::cuda_emulation::wait_for_block();
}

template <class Value>
Value __shfl_xor_sync(unsigned, Value value, int offset) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = matrix::cuda_emulation::exchange(bits, static_cast<unsigned>(offset));
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <class Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Arguments),
                               const Arguments& arguments) {
    constexpr unsigned kMostThreads = 1024;
    if (config->gridDim.x == 0 || config->blockDim.x == 0 || config->blockDim.x > kMostThreads) {
        return cudaErrorInvalidConfiguration;
    }
    const auto call = [&] { kernel(arguments); };
    matrix::cuda_emulation::run_grid(
        config->gridDim, config->blockDim,
        [](const void* context) { (*static_cast<const decltype(call)*>(context))(); }, &call);
    return cudaSuccess;
}
