#include "matrix/core/device_memory.h"

#include <fstream>
#include <string>

#include "core/cpu_allocator.h"

#ifdef MATRIX_WITH_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace matrix {

void use_counting_allocator() {
    c10::SetAllocator(c10::DeviceType::CPU, &CpuAllocator::instance(), 1);
}

TensorBytes tensor_bytes(c10::Device device) {
#ifdef MATRIX_WITH_CUDA
    if (device.is_cuda()) {
        const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
        return {stats.requested_bytes[0].current, stats.requested_bytes[0].peak};
    }
#endif
    TORCH_CHECK(device.is_cpu(), "tensor_bytes: ", device);
    return CpuAllocator::instance().bytes();
}

void reset_peak(c10::Device device) {
#ifdef MATRIX_WITH_CUDA
    if (device.is_cuda()) {
        c10::cuda::CUDACachingAllocator::resetPeakStats(device.index());
        return;
    }
#endif
    TORCH_CHECK(device.is_cpu(), "reset_peak: ", device);
    CpuAllocator::instance().reset_peak();
}

std::int64_t peak_resident_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word == "VmHWM:") {
            std::int64_t kib = 0;
            status >> kib;
            return kib * 1024;
        }
    }
    return 0;
}

std::optional<std::int64_t> free_bytes([[maybe_unused]] c10::Device device) {
#ifdef MATRIX_WITH_CUDA
    if (device.is_cuda()) {
        release_cached_memory();
        return static_cast<std::int64_t>(
            c10::cuda::CUDACachingAllocator::get()->getMemoryInfo(device.index()).first);
    }
#endif
    return std::nullopt;
}

void release_cached_memory() {
    CpuAllocator::instance().release_cached();
#ifdef MATRIX_WITH_CUDA
    c10::cuda::CUDACachingAllocator::emptyCache();
#endif
}

}  // namespace matrix
