#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace matrix {

/// The tensor on a device, itself where it is there already. What goes from the host to a GPU is
/// copied to pinned memory and queued, so that nobody waits for what the GPU has still to do.
[[nodiscard]] at::Tensor upload(const at::Tensor& tensor, c10::Device device);

/// Returns when the device has done all that was queued on it; at once for a CPU.
void wait_for(c10::Device device);

/// The tensor on the host, itself where it is there already; from a GPU, this waits for it.
[[nodiscard]] at::Tensor on_host(const at::Tensor& tensor);

}  // namespace matrix
