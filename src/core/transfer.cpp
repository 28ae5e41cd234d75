#include "matrix/core/transfer.h"

#include <ATen/ATen.h>

namespace matrix {

at::Tensor upload(const at::Tensor& tensor, c10::Device device) {
    if (tensor.device() == device) {
        return tensor;
    }
    const bool is_queued = tensor.is_cpu() && device.is_cuda();
    return (is_queued ? tensor.pin_memory() : tensor).to(device, is_queued);
}

at::Tensor on_host(const at::Tensor& tensor) {
    return tensor.is_cpu() ? tensor : tensor.to(at::kCPU);
}

}  // namespace matrix
