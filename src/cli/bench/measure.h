#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace matrix::cli::bench {

/// Seconds of the repetitions of one piece of work, and how much memory they took.
struct Measurement {
    double first_seconds = 0.0;   ///< from the process's start to the end of the first repetition
    std::vector<double> seconds;  ///< by the clock
    std::vector<double> cpu_seconds;  ///< of the process, over all its threads
    std::int64_t live_bytes = 0;      ///< of tensors before the repetitions that count
    std::int64_t peak_bytes = 0;      ///< the most that lived at once in those
    std::int64_t host_bytes = 0;      ///< the most that the process had resident
};

/// Runs `work` `warmup` times and then `steps` times that count. Each ends when the device is done.
[[nodiscard]] Measurement measure(const std::function<void()>& work, std::int64_t warmup,
                                  std::int64_t steps, at::Device device);

/// `median`, `min`, `max`
[[nodiscard]] nlohmann::json spread(std::vector<double> values);
[[nodiscard]] double median(std::vector<double> values);

/// What the device's matrix product does at best: FLOP of a square product over the least time one
/// took. On a CPU that is CPU time of all threads, as in `cpu_seconds`, which other programs on the
/// machine disturb least.
[[nodiscard]] double measured_peak(at::Device device, at::ScalarType dtype);

/// Name and versions of what everything was measured on.
[[nodiscard]] nlohmann::json machine(at::Device device);

}  // namespace matrix::cli::bench
