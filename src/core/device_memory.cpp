#include "matrix/core/device_memory.h"

#ifdef MATRIX_WITH_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace matrix {

void release_cached_memory() {
#ifdef MATRIX_WITH_CUDA
    c10::cuda::CUDACachingAllocator::emptyCache();
#endif
}

}  // namespace matrix
