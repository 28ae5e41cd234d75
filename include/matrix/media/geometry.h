#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace matrix::media {

/// How source pixels reach the target grid; frames, first frame, masks and ID map share one.
enum class Resize { kCrop, kStretch };

/// Scaled size and centre-crop offsets. `kCrop`: s = max(H/h, W/w), scaled = round-half-even(h s, w
/// s), never below the target, offsets floor((scaled - target) / 2). `kStretch`: scaled = target,
/// no offsets.
struct Geometry {
    std::int64_t source_height_px = 0, source_width_px = 0;
    std::int64_t scaled_height_px = 0, scaled_width_px = 0;
    std::int64_t top_px = 0, left_px = 0;
    std::int64_t height_px = 0, width_px = 0;
};
[[nodiscard]] Geometry fit(std::int64_t source_height_px, std::int64_t source_width_px,
                           std::int64_t height_px, std::int64_t width_px, Resize resize);

/// [n, h, w, 3] uint8 to [n, H, W, 3] uint8: INTER_AREA where neither axis grows, else INTER_CUBIC;
/// equal sizes copy.
[[nodiscard]] at::Tensor resize_frames(const at::Tensor& frames, const Geometry& geometry);

/// [h', w'] uint8 of the mask's own size (the video's or its aspect ratio) to [H, W]: nearest,
/// source index floor((2 dst + 1) source / (2 scaled)) per axis, straight from the mask's grid to
/// the scaled grid, before the crop.
[[nodiscard]] at::Tensor resize_mask(const at::Tensor& mask, const Geometry& geometry);

/// [h, w, 3] uint8 to [H, W, 3] uint8, as Pillow's `resize` with LANCZOS, which is how the
/// reference's pipelines bring an image to size: rows first, then columns, weights in fixed point,
/// pixels between the two rounded to bytes; the filter widens where an axis shrinks. Equal to the
/// bit up to Pillow 12; 13 takes the columns of some shapes first, which moves values
/// at hard edges by a few levels.
[[nodiscard]] at::Tensor resize_lanczos(const at::Tensor& image, std::int64_t height_px,
                                        std::int64_t width_px);

/// Paints frame-0 masks in ID order on black: `masks[i]` [H, W] uint8 belongs to `ids[i]` (1..5:
/// red, green, blue, yellow, magenta), a later ID wins. [H, W, 3] uint8.
[[nodiscard]] at::Tensor paint_id_map(const std::vector<at::Tensor>& masks,
                                      const std::vector<std::int64_t>& ids);

/// [n, H, W, 3] uint8 to [3, n, H, W] float32, x / 255 * 2 - 1.
[[nodiscard]] at::Tensor to_model_range(const at::Tensor& frames);

/// First-frame cells of 16 x 16 pixels, [gh, gw] uint8, from a [H, W] uint8 mask: `half` takes
/// cells with at least half of their pixels set, and the best-covered one (first in row-major
/// order) where none has; `nearest` takes pixel (16 i, 16 j), without that fallback (the MATRIX
/// authors' public code).
[[nodiscard]] at::Tensor query_cells(const at::Tensor& mask, bool nearest);

}  // namespace matrix::media
