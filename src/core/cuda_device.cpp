#include "matrix/core/cuda_device.h"

#include <ATen/Context.h>

namespace matrix {

c10::Device cuda_device(int index) {
    at::globalContext().setAllowTF32CuDNN(false);
    return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

}  // namespace matrix
