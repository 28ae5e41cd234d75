#pragma once

#include "matrix/models/vae.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace matrix::models::vae {

/// Along one axis: `tile` and `stride` in the network's input (pixels where it encodes, latents
/// where it decodes), `blend` and `keep` in its output.
struct TileAxis {
    std::int64_t tile;    ///< a tile's extent
    std::int64_t stride;  ///< from tile to tile
    std::int64_t blend;   ///< over which a tile fades into the next one
    std::int64_t keep;    ///< what a tile contributes
};

/// Half of the config's sample, with an overlap of 1/6 of the height and 1/5 of the width.
struct TileGrid {
    [[nodiscard]] static TileGrid for_encoding(const VaeConfig& config);
    [[nodiscard]] static TileGrid for_decoding(const VaeConfig& config);
    /// Whether an input of this size is cut at all.
    [[nodiscard]] bool splits(std::int64_t height, std::int64_t width) const;

    TileAxis rows;
    TileAxis columns;
    std::int64_t smallest_tile;  ///< of which there is any output
};

/// Runs each tile of `input` [B, C, T, H, W] through `run` and blends the results: a tile with the
/// already blended one above, then with the one at its left, linearly. RunError if a tile would be
/// too small.
[[nodiscard]] at::Tensor run_tiled(const at::Tensor& input, const TileGrid& grid,
                                   const std::function<at::Tensor(const at::Tensor& tile)>& run);

}  // namespace matrix::models::vae
