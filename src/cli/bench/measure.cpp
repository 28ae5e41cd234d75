#include "cli/bench/measure.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>

#include "matrix/core/device_memory.h"
#include "matrix/core/transfer.h"
#ifdef MATRIX_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

namespace matrix::cli::bench {
namespace {

double seconds_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Since the kernel started the process, to a hundredth of a second.
double process_age() {
    std::ifstream file("/proc/self/stat");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::istringstream fields(text.substr(text.rfind(')') + 1));  // the name may hold blanks
    constexpr int kFieldsBefore = 19;
    std::string skipped;
    for (int i = 0; i < kFieldsBefore; ++i) {
        fields >> skipped;
    }
    double ticks = 0.0;
    fields >> ticks;
    return seconds_of(CLOCK_BOOTTIME) - ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

/// The value behind `key` in a file of "key: value" lines, or nothing.
std::string value_in(const char* path, const std::string& key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        const std::size_t colon = line.find(':');
        if (line.starts_with(key) && colon != std::string::npos) {
            const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
            return begin == std::string::npos ? "" : line.substr(begin);
        }
    }
    return "";
}

std::string device_name(at::Device device) {
#ifdef MATRIX_WITH_CUDA
    if (device.is_cuda()) {
        return at::cuda::getDeviceProperties(device.index())->name;
    }
#endif
    return device.is_cpu() ? value_in("/proc/cpuinfo", "model name") : device.str();
}

}  // namespace

Measurement measure(const std::function<void()>& work, std::int64_t warmup, std::int64_t steps,
                    at::Device device) {
    Measurement result;
    const auto run = [&] {
        work();
        wait_for(device);
        if (result.first_seconds == 0.0) {
            result.first_seconds = process_age();
        }
    };
    for (std::int64_t i = 0; i < warmup; ++i) {
        run();
    }
    reset_peak(device);
    result.live_bytes = tensor_bytes(device).live;
    for (std::int64_t i = 0; i < steps; ++i) {
        const double begin = seconds_of(CLOCK_MONOTONIC);
        const double cpu_begin = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
        run();
        result.cpu_seconds.push_back(seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin);
        result.seconds.push_back(seconds_of(CLOCK_MONOTONIC) - begin);
    }
    result.peak_bytes = tensor_bytes(device).peak;
    result.host_bytes = peak_resident_bytes();
    return result;
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

nlohmann::json spread(std::vector<double> values) {
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    return {{"median", median(values)}, {"min", *least}, {"max", *most}};
}

double measured_peak(at::Device device, at::ScalarType dtype) {
    const std::int64_t n = device.is_cpu() ? 1024 : 8192;
    const at::Tensor a = at::randn({n, n}, at::TensorOptions(device).dtype(dtype));
    const at::Tensor b = at::randn_like(a);
    at::Tensor c = at::empty_like(a);
    const Measurement product = measure([&] { at::mm_out(c, a, b); }, 2, 7, device);
    const std::vector<double>& seconds = device.is_cpu() ? product.cpu_seconds : product.seconds;
    const auto size = static_cast<double>(n);
    return 2 * size * size * size / *std::min_element(seconds.begin(), seconds.end());
}

nlohmann::json machine(at::Device device) {
    return {{"device", device.is_cpu() ? "cpu" : "cuda"},
            {"device_name", device_name(device)},
            {"threads", at::get_num_threads()},
            {"versions", {{"matrix", MATRIX_VERSION}, {"torch", TORCH_VERSION}}}};
}

}  // namespace matrix::cli::bench
