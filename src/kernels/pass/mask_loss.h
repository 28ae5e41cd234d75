#pragma once

#include "kernels/pass/element.h"

// Contiguous [E, pixels] in blocks of kBlockPixels, the last of an entity short: these are the
// rows. Sums are within a block, so that they depend on no split.

namespace matrix::kernels::pass {

constexpr std::int64_t kBlockPixels = 1 << 14;

constexpr std::int64_t blocks_of(std::int64_t pixels) {
    return (pixels + kBlockPixels - 1) / kBlockPixels;
}

/// Writes sums [E, blocks, 6], in the order of kernels::MaskSums.
struct MaskSums {
    const float* x;
    const std::uint8_t* y;
    double* sums;
    std::int64_t pixels;
};
void run(const MaskSums& a, std::int64_t begin, std::int64_t end);
void launch(const MaskSums& a, std::int64_t rows, Stream stream);

/// Of one entity; kernels::mask_gradient says what they are.
struct MaskSlopes {
    float bce, extra_bce, square, everywhere, inside;
};
struct MaskGradient {
    const float* x;
    const std::uint8_t* y;
    const MaskSlopes* slopes;
    float* grad;
    std::int64_t pixels;
};
void run(const MaskGradient& a, std::int64_t begin, std::int64_t end);
void launch(const MaskGradient& a, std::int64_t rows, Stream stream);

}  // namespace matrix::kernels::pass
