#include "matrix/train/performance.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "matrix/core/device_memory.h"
#ifdef MATRIX_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace matrix::train {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

double peak_memory_gib([[maybe_unused]] at::Device device) {
#ifdef MATRIX_WITH_CUDA
    if (device.is_cuda()) {
        const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
        return static_cast<double>(stats.reserved_bytes[0].peak) / kGib;
    }
#endif
    return static_cast<double>(peak_resident_bytes()) / kGib;
}

std::optional<double> peak_flops_of([[maybe_unused]] at::Device device) {
#ifdef MATRIX_WITH_CUDA
    if (device.is_cuda()) {
        return peak_bfloat16_flops(at::cuda::getDeviceProperties(device.index())->name);
    }
#endif
    return std::nullopt;
}

}  // namespace

std::optional<double> peak_bfloat16_flops(const std::string& gpu) {
    constexpr std::array<std::pair<const char*, double>, 9> kPeaks = {{{"B200", 2250e12},
                                                                       {"H200", 989e12},
                                                                       {"H100", 989e12},
                                                                       {"A100", 312e12},
                                                                       {"L40S", 362e12},
                                                                       {"RTX A6000", 155e12},
                                                                       {"RTX 5090", 210e12},
                                                                       {"RTX 4090", 165e12},
                                                                       {"RTX 3090", 71e12}}};
    for (const auto& [name, flops] : kPeaks) {
        if (gpu.find(name) != std::string::npos) {
            return flops;
        }
    }
    return std::nullopt;
}

Performance::Performance(const models::Backbone& backbone, const nn::TokenLayout& layout,
                         std::int64_t global_batch, const Ranks& ranks)
    : tokens_(static_cast<double>(global_batch * layout.num_queries())),
      flops_(static_cast<double>(global_batch) * backbone.training_flops(layout)),
      device_(backbone.device()) {
    if (backbone.dtype() == at::kBFloat16) {
        peak_flops_ = peak_flops_of(device_);
    }
    if (peak_flops_) {
        *peak_flops_ *= ranks.all.world_size();
    }
}

nlohmann::json Performance::of_step(std::int64_t step, double step_seconds,
                                    double data_seconds) const {
    nlohmann::json json = {{"step", step},
                           {"step_seconds", step_seconds},
                           {"data_seconds", data_seconds},
                           {"tokens_per_second", tokens_ / step_seconds},
                           {"memory_gib", peak_memory_gib(device_)}};
    if (peak_flops_) {
        json["mfu"] = flops_ / step_seconds / *peak_flops_;
    }
    return json;
}

}  // namespace matrix::train
