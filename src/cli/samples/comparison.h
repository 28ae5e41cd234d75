#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace matrix::cli::samples {

/// One clip three times, each [T, H, W, 3] uint8; `source` may be undefined.
struct Comparison {
    std::string name;
    std::string prompt;
    at::Tensor source;   ///< the clip itself
    at::Tensor base;     ///< from its first frame and prompt, without the adapter
    at::Tensor adapter;  ///< the same with it
};

/// The three next to each other with their names above, [T, H', W', 3], of even size.
[[nodiscard]] at::Tensor side_by_side(const Comparison& videos);

/// Some frames of each, a row each, under what is compared.
[[nodiscard]] at::Tensor contact_sheet(const Comparison& videos, const std::string& about_run,
                                       std::int64_t step);

}  // namespace matrix::cli::samples
