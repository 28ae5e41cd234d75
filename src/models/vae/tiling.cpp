#include "models/vae/tiling.h"

#include "matrix/core/error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

namespace matrix::models::vae {
namespace {

constexpr double kOverlapHeight = 1.0 / 6.0;
constexpr double kOverlapWidth = 1.0 / 5.0;

// Fades the first `extent` rows (dim 3) or columns (dim 4) of `tile` in from the last ones of
// `previous`, in place.
void blend(const at::Tensor& previous, const at::Tensor& tile, std::int64_t dim,
           std::int64_t extent) {
    extent = std::min({extent, previous.size(dim), tile.size(dim)});
    for (std::int64_t i = 0; i < extent; ++i) {
        const double share = static_cast<double>(i) / static_cast<double>(extent);
        const at::Tensor from = previous.select(dim, previous.size(dim) - extent + i);
        at::Tensor to = tile.select(dim, i);
        to.copy_(from * (1.0 - share) + to * share);
    }
}

at::Tensor crop(const at::Tensor& tile, std::int64_t height, std::int64_t width) {
    return tile.narrow(3, 0, std::min(height, tile.size(3)))
        .narrow(4, 0, std::min(width, tile.size(4)));
}

void check_tiles(const TileAxis& axis, std::int64_t size_px, std::int64_t downscale,
                 const char* name) {
    const std::int64_t rest_px = axis.stride_px > 0 ? (size_px - 1) % axis.stride_px + 1 : 0;
    if (std::min(axis.tile_px, rest_px) < downscale) {
        throw RunError("vae: tiling a video with a " + std::string(name) + " of " +
                       std::to_string(size_px) + " pixels into tiles of " +
                       std::to_string(axis.tile_px) + " leaves one smaller than " +
                       std::to_string(downscale) + " pixels; encode it without tiling");
    }
}

}  // namespace

// The products are truncated as the reference's are, in double.
TileAxis::TileAxis(std::int64_t sample_px, double overlap, std::int64_t downscale)
    : tile_px(sample_px / 2),
      stride_px(static_cast<std::int64_t>(static_cast<double>(tile_px) * (1.0 - overlap))),
      blend_latents(static_cast<std::int64_t>(static_cast<double>(tile_px / downscale) * overlap)),
      keep_latents(tile_px / downscale - blend_latents) {}

TileGrid::TileGrid(const VaeConfig& config)
    : rows(config.sample_height, kOverlapHeight, spatial_downscale(config)),
      columns(config.sample_width, kOverlapWidth, spatial_downscale(config)) {}

bool TileGrid::splits(std::int64_t height_px, std::int64_t width_px) const {
    return height_px > rows.tile_px || width_px > columns.tile_px;
}

at::Tensor encode_tiled(const at::Tensor& video, const TileGrid& grid, std::int64_t downscale,
                        const std::function<at::Tensor(const at::Tensor& tile)>& encode) {
    const std::int64_t height = video.size(3);
    const std::int64_t width = video.size(4);
    check_tiles(grid.rows, height, downscale, "height");
    check_tiles(grid.columns, width, downscale, "width");

    std::vector<at::Tensor> rows;
    std::vector<at::Tensor> above;  // the row of blended tiles before this one
    for (std::int64_t y = 0; y < height; y += grid.rows.stride_px) {
        std::vector<at::Tensor> tiles;
        std::vector<at::Tensor> kept;
        for (std::int64_t x = 0; x < width; x += grid.columns.stride_px) {
            const at::Tensor pixels = video.narrow(3, y, std::min(grid.rows.tile_px, height - y))
                                          .narrow(4, x, std::min(grid.columns.tile_px, width - x));
            at::Tensor tile = encode(pixels);  // [B, 2 * latent_channels, F, h, w]
            if (!above.empty()) {
                blend(above[tiles.size()], tile, 3, grid.rows.blend_latents);
            }
            if (!tiles.empty()) {
                blend(tiles.back(), tile, 4, grid.columns.blend_latents);
            }
            kept.push_back(crop(tile, grid.rows.keep_latents, grid.columns.keep_latents));
            tiles.push_back(std::move(tile));
        }
        rows.push_back(at::cat(kept, 4));
        above = std::move(tiles);
    }
    return at::cat(rows, 3);
}

}  // namespace matrix::models::vae
