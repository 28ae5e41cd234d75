#pragma once

#include "kernels/cpu/loops.h"

// Contiguous [E, pixels] in blocks of kBlockPixels, the last of an entity short; each call does
// blocks [begin, end) of all. Sums are within a block, so that they depend on no split.

namespace matrix::kernels::cpu {

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

}  // namespace matrix::kernels::cpu
