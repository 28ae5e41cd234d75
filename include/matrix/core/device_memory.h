#pragma once

namespace matrix {

/// Gives back to the GPU what PyTorch's allocator keeps of tensors that are gone; nothing in a
/// program built without CUDA.
void release_cached_memory();

}  // namespace matrix
