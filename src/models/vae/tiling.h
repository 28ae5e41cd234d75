#pragma once

#include "matrix/models/vae_encoder.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace matrix::models::vae {

/// Sizes along one axis: half of the config's sample in pixels, an overlap of 1/6 of the height or
/// 1/5 of the width.
struct TileAxis {
    TileAxis(std::int64_t sample_px, double overlap, std::int64_t downscale);

    std::int64_t tile_px;        ///< a tile's extent in pixels
    std::int64_t stride_px;      ///< from tile to tile
    std::int64_t blend_latents;  ///< latents over which a tile fades into the next one
    std::int64_t keep_latents;   ///< latents a tile contributes
};

struct TileGrid {
    explicit TileGrid(const VaeConfig& config);
    /// Whether a video of this size is cut at all.
    [[nodiscard]] bool splits(std::int64_t height_px, std::int64_t width_px) const;

    TileAxis rows;
    TileAxis columns;
};

/// Encodes each tile of `video` [B, 3, T, H, W] with `encode` and blends them: a tile with the
/// already blended one above, then with the one at its left, linearly. RunError if a tile would be
/// too small to be encoded.
[[nodiscard]] at::Tensor encode_tiled(
    const at::Tensor& video, const TileGrid& grid, std::int64_t downscale,
    const std::function<at::Tensor(const at::Tensor& tile)>& encode);

}  // namespace matrix::models::vae
