#pragma once

#include <cstdint>
#include <functional>

namespace matrix::kernels::cpu {

/// Calls run(begin, end) on ranges that together are [0, rows), on LibTorch's own threads where
/// there is enough to do: `row_elements` elements a row.
void for_rows(std::int64_t rows, std::int64_t row_elements,
              const std::function<void(std::int64_t, std::int64_t)>& run);

}  // namespace matrix::kernels::cpu
