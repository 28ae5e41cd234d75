#include "matrix/core/transfer.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace matrix {

at::Tensor upload(const at::Tensor& tensor, c10::Device device) {
    if (tensor.device() == device) {
        return tensor;
    }
    const bool is_queued = tensor.is_cpu() && device.is_cuda();
    return (is_queued ? tensor.pin_memory() : tensor).to(device, is_queued);
}

void wait_for(c10::Device device) {
    if (!device.is_cpu()) {
        c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
    }
}

at::Tensor on_host(const at::Tensor& tensor) {
    return tensor.is_cpu() ? tensor : tensor.to(at::kCPU);
}

}  // namespace matrix
