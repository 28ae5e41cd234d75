#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace matrix::kernels {

// The passes over all pixels that a mask loss is made of, forward and backward, on E entities. s =
// sigmoid of a pixel's logit; y are zeros and ones in any dtype.

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

/// Each [E] float64: a pixel's gradient is
/// (s - y) (bce + y extra_bce) + ((s - y) square + everywhere + y inside) s (1 - s).
struct MaskSlopes {
    at::Tensor bce, extra_bce, square, everywhere, inside;
};

/// Of logits x [E, n], float32 or float64, with y [E, n]: a bounded number of pixels at a time.
[[nodiscard]] MaskSums mask_sums(const at::Tensor& x, const at::Tensor& y);
[[nodiscard]] at::Tensor mask_gradient(const at::Tensor& x, const at::Tensor& y,
                                       const MaskSlopes& slopes);

/// Pixels of a cell along each side.
inline constexpr std::int64_t kCellPixels = 16;

/// Logits as a head leaves them, before they are pixels: K steps of `frames` pixel frames, of which
/// the first step has only its last, and gh x gw cells. A pixel's logit is the sum of the parts, of
/// which one may be undefined.
struct CellLogits {
    at::Tensor rows;          ///< [E, K, gh, 16 gw]: interpolated along each row of cells. Down a
                              ///< column it is linear between the cells' centres, constant beyond
                              ///< the outer ones, and all frames of a step share it.
    at::Tensor cells;         ///< [E, K, gh, gw, frames * 256]: (frame, y, x) within each cell
    std::int64_t frames = 4;  ///< of a step
};

/// [E, frames (K - 1) + 1, 16 gh, 16 gw], differentiable in both parts.
[[nodiscard]] at::Tensor pixel_logits(const CellLogits& logits);

/// The same sums and gradients with y [E, T, H, W]. In float32 one pass each way makes the logits
/// where it needs them, evaluates what frames share once, and reads masks of bytes as they are;
/// other dtypes, and a GPU on which that pass fails its check, go through pixel_logits().
[[nodiscard]] MaskSums mask_sums(const CellLogits& logits, const at::Tensor& y);
[[nodiscard]] CellLogits mask_gradient(const CellLogits& logits, const at::Tensor& y,
                                       const MaskSlopes& slopes);

}  // namespace matrix::kernels
