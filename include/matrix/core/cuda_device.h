#pragma once

#include <c10/core/Device.h>

namespace matrix {

/// The GPU of this index, with float32 meaning float32: PyTorch lets cuDNN round what enters a
/// float32 convolution to TF32 (11 bits), and from the first call on this process does not.
[[nodiscard]] c10::Device cuda_device(int index);

}  // namespace matrix
