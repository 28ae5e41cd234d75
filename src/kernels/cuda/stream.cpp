#include "kernels/cuda/stream.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace matrix::kernels::cuda {

void on_stream_of(const at::Tensor& x, const std::function<void(pass::Stream)>& queue) {
    const c10::cuda::CUDAGuard guard(x.device());
    queue(c10::cuda::getCurrentCUDAStream(x.get_device()).stream());
}

}  // namespace matrix::kernels::cuda
