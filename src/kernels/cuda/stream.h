#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "kernels/pass/element.h"

namespace matrix::kernels::cuda {

/// Calls queue(stream) with the current stream of the tensor's device, which is the current device
/// meanwhile. Only in builds with MATRIX_WITH_CUDA.
void on_stream_of(const at::Tensor& x, const std::function<void(pass::Stream)>& queue);

}  // namespace matrix::kernels::cuda
