#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/cpu/parallel.h"
#include "kernels/pass/element.h"
#ifdef MATRIX_WITH_CUDA
#include "kernels/cuda/stream.h"
#endif

namespace matrix::kernels::pass {

/// Does a pass over all rows where `x` is: on several threads of a CPU, `row_elements` a row, or on
/// a GPU's current stream.
template <class Pass>
void run_rows([[maybe_unused]] const at::Tensor& x, const Pass& pass, std::int64_t rows,
              std::int64_t row_elements) {
#ifdef MATRIX_WITH_CUDA
    if (x.is_cuda()) {
        cuda::on_stream_of(x, [&](Stream stream) { launch(pass, rows, stream); });
        return;
    }
#endif
    cpu::for_rows(rows, row_elements,
                  [&](std::int64_t begin, std::int64_t end) { run(pass, begin, end); });
}

/// Whether passes over a tensor are launched on a GPU.
inline bool are_launched_on([[maybe_unused]] const at::Tensor& x) {
#ifdef MATRIX_WITH_CUDA
    return x.is_cuda();
#else
    return false;
#endif
}

/// Queues a pass that GPUs alone have.
template <class Pass>
void launch_rows(const at::Tensor& x, [[maybe_unused]] const Pass& pass,
                 [[maybe_unused]] std::int64_t rows) {
    TORCH_CHECK(are_launched_on(x), "a pass for GPUs over a tensor on ", x.device());
#ifdef MATRIX_WITH_CUDA
    cuda::on_stream_of(x, [&](Stream stream) { launch(pass, rows, stream); });
#endif
}

}  // namespace matrix::kernels::pass
