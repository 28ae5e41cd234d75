#pragma once

#include <cstdint>

struct CUstream_st;

// The passes of this folder take raw pointers, so that their code knows nothing of tensors. Each is
// declared for both kinds of devices: `run`, in ../cpu/, does a part of the rows on the calling
// thread; `launch`, in ../cuda/ and only where the program is built for it, queues all of them on a
// stream and throws std::runtime_error where that fails. Arithmetic is in float32, and every
// element is rounded once, when it is stored.

namespace matrix::kernels::pass {

/// Storage of a bfloat16.
using Bfloat16 = std::uint16_t;

using Stream = CUstream_st*;  ///< cudaStream_t

}  // namespace matrix::kernels::pass
