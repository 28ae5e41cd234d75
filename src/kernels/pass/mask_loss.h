#pragma once

#include "kernels/pass/element.h"

// Contiguous [E, steps, height, ...]: a row of the passes is one row of cells in one step of one
// entity. Sums are within a row, so that they depend on no split.

namespace matrix::kernels::pass {

constexpr int kCellPixels = 16;  ///< along each side

/// kernels::CellLogits with masks y [E, frames (steps - 1) + 1, 16 height, width].
struct MaskCells {
    const float* rows;   ///< [E, steps, height, width] or null
    const float* cells;  ///< [E, steps, height, width / 16, frames, 16, 16] or null
    const std::uint8_t* y;
    std::int64_t steps, height, width, frames;
};

/// Writes sums [E, steps, height, 6], in the order of kernels::MaskSums.
struct MaskSums {
    MaskCells in;
    double* sums;
};
void run(const MaskSums& a, std::int64_t begin, std::int64_t end);
void launch(const MaskSums& a, std::int64_t rows, Stream stream);

/// Of one entity; kernels::MaskSlopes says what they are.
struct MaskSlopes {
    float bce, extra_bce, square, everywhere, inside;
};
/// Writes the gradients of both parts, where there are such. That of `rows` is in three, [E, steps,
/// height, 3, width]: what a row of cells gives the row above it, itself, and the row below. The
/// outer rows, which lack one, keep that for themselves.
struct MaskGradient {
    MaskCells in;
    const MaskSlopes* slopes;  ///< [E]
    float* rows;
    float* cells;
};
void run(const MaskGradient& a, std::int64_t begin, std::int64_t end);
void launch(const MaskGradient& a, std::int64_t rows, Stream stream);

}  // namespace matrix::kernels::pass
