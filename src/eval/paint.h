#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

#include "matrix/media/draw.h"

namespace matrix::eval {

/// Of the object with this place in its scenario (kColorNames): corners of the RGB cube.
[[nodiscard]] media::Color object_color(std::size_t index);

/// First and last row and column, inclusive.
struct PixelBox {
    std::int64_t top = 0, left = 0, bottom = -1, right = -1;
    [[nodiscard]] bool empty() const { return bottom < top || right < left; }
};

/// Of all that is set in a [H, W] uint8 mask, all its fragments together.
[[nodiscard]] PixelBox bounds(const at::Tensor& mask);

/// Draws a rectangle of 2 px into a contiguous [H, W, 3] uint8 frame: the box's own edge and the
/// ring around it, as far as it is inside the frame.
void draw_box(at::Tensor& frame, const PixelBox& box, media::Color color);

/// Blends the mask's pixels half and half with the color.
void tint(at::Tensor& frame, const at::Tensor& mask, media::Color color);

}  // namespace matrix::eval
