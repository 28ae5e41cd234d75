#pragma once

#include "kernels/cpu/loops.h"
#include "kernels/cpu/parallel.h"

#include <ATen/core/Tensor.h>

// From tensors to the loops of this folder.

namespace matrix::kernels::cpu {

/// Whether the loops take a tensor; others are for ATen's operations.
inline bool has_loops(const at::Tensor& x) {
    return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

/// Calls visit(T()) with the element type that the loops have for the tensor.
template <class Visit>
void with_element_of(const at::Tensor& x, Visit visit) {
    if (x.scalar_type() == at::kFloat) {
        visit(float());
    } else {
        visit(Bfloat16());
    }
}

template <class T>
T* data(const at::Tensor& x) {
    return static_cast<T*>(x.data_ptr());
}

/// Runs a loop over all rows, on several threads.
template <class Loop>
void run_rows(const Loop& loop, std::int64_t rows, std::int64_t row_elements) {
    for_rows(rows, row_elements,
             [&](std::int64_t begin, std::int64_t end) { run(loop, begin, end); });
}

}  // namespace matrix::kernels::cpu
