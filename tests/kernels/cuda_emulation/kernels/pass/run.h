#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/pass/element.h"

// In the place of src/kernels/pass/run.h, so that CPU tensors go through the CUDA kernels.

namespace matrix::kernels::pass {

template <class Pass>
void run_rows(const at::Tensor&, const Pass& pass, std::int64_t rows, std::int64_t) {
    launch(pass, rows, nullptr);
}

inline bool are_launched_on(const at::Tensor&) {
    return true;
}

template <class Pass>
void launch_rows(const at::Tensor&, const Pass& pass, std::int64_t rows) {
    launch(pass, rows, nullptr);
}

}  // namespace matrix::kernels::pass
