#pragma once

#include <ATen/core/Tensor.h>

namespace matrix::kernels {

// The passes over all pixels that a mask loss is made of, forward and backward. E entities of n
// pixels: x [E, n] logits, float32 or float64; y [E, n] zeros and ones in any dtype; s =
// sigmoid(x). In float32 one pass each way that reads masks of bytes as they are, otherwise a
// bounded number of pixels at a time.

/// Sums over an entity's pixels, each [E] float64. The cross-entropy of a pixel is log(1 +
/// exp(-x)) where y = 1 and log(1 + exp(x)) where y = 0: finite for any finite logit.
struct MaskSums {
    at::Tensor positives;     ///< y
    at::Tensor positive_bce;  ///< y times the cross-entropy
    at::Tensor all_bce;       ///< the cross-entropy
    at::Tensor overlap;       ///< s y
    at::Tensor foreground;    ///< s
    at::Tensor squares;       ///< (s - y)^2
};
[[nodiscard]] MaskSums mask_sums(const at::Tensor& x, const at::Tensor& y);

/// Each [E] float64.
struct MaskSlopes {
    at::Tensor bce, extra_bce, square, everywhere, inside;
};
/// (s - y) (bce + y extra_bce) + ((s - y) square + everywhere + y inside) s (1 - s): [E, n], the
/// gradient of x.
[[nodiscard]] at::Tensor mask_gradient(const at::Tensor& x, const at::Tensor& y,
                                       const MaskSlopes& slopes);

}  // namespace matrix::kernels
