#pragma once

#include <functional>

namespace matrix::cli::bench {

/// Runs `work` and counts the floating-point operations of the matrix products, convolutions and
/// attention kernels that it asks ATen for, forward and backward, a multiply and an add as two.
[[nodiscard]] double counted_flop(const std::function<void()>& work);

}  // namespace matrix::cli::bench
