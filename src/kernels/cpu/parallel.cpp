#include "kernels/cpu/parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace matrix::kernels::cpu {
namespace {

constexpr std::int64_t kGrainElements = 32768;  ///< as ATen's own elementwise operations

}  // namespace

void for_rows(std::int64_t rows, std::int64_t row_elements,
              const std::function<void(std::int64_t, std::int64_t)>& run) {
    at::parallel_for(0, rows, kGrainElements / std::max<std::int64_t>(1, row_elements) + 1, run);
}

}  // namespace matrix::kernels::cpu
