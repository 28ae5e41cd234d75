#include "models/vae/tiling.h"

#include "matrix/core/error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

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

void check_tiles(const TileAxis& axis, std::int64_t size, std::int64_t smallest, const char* name) {
    const std::int64_t rest = axis.stride > 0 ? (size - 1) % axis.stride + 1 : 0;
    if (std::min(axis.tile, rest) < smallest) {
        throw RunError("vae: tiling a " + std::string(name) + " of " + std::to_string(size) +
                       " into tiles of " + std::to_string(axis.tile) + " leaves one smaller than " +
                       std::to_string(smallest) + "; run it without tiling");
    }
}

// Products are truncated as the reference's are, in double.
std::int64_t share(std::int64_t size, double of) {
    return static_cast<std::int64_t>(static_cast<double>(size) * of);
}

/// `in` and `out` are a tile's extents.
TileAxis axis(std::int64_t in, std::int64_t out, double overlap) {
    const std::int64_t blend = share(out, overlap);
    return {in, share(in, 1.0 - overlap), blend, out - blend};
}

}  // namespace

TileGrid TileGrid::for_encoding(const VaeConfig& config) {
    const std::int64_t rows = config.sample_height / 2, columns = config.sample_width / 2;
    const std::int64_t downscale = spatial_downscale(config);
    return {axis(rows, rows / downscale, kOverlapHeight),
            axis(columns, columns / downscale, kOverlapWidth), downscale};
}

TileGrid TileGrid::for_decoding(const VaeConfig& config) {
    const std::int64_t rows = config.sample_height / 2, columns = config.sample_width / 2;
    const std::int64_t downscale = spatial_downscale(config);
    return {axis(rows / downscale, rows, kOverlapHeight),
            axis(columns / downscale, columns, kOverlapWidth), 1};
}

bool TileGrid::splits(std::int64_t height, std::int64_t width) const {
    return height > rows.tile || width > columns.tile;
}

at::Tensor run_tiled(const at::Tensor& input, const TileGrid& grid,
                     const std::function<at::Tensor(const at::Tensor& tile)>& run) {
    const std::int64_t height = input.size(3), width = input.size(4);
    check_tiles(grid.rows, height, grid.smallest_tile, "height");
    check_tiles(grid.columns, width, grid.smallest_tile, "width");

    std::vector<at::Tensor> rows;
    std::vector<at::Tensor> above;  // the row of blended tiles before this one
    for (std::int64_t y = 0; y < height; y += grid.rows.stride) {
        std::vector<at::Tensor> tiles;
        std::vector<at::Tensor> kept;
        for (std::int64_t x = 0; x < width; x += grid.columns.stride) {
            at::Tensor tile = run(input.narrow(3, y, std::min(grid.rows.tile, height - y))
                                      .narrow(4, x, std::min(grid.columns.tile, width - x)));
            if (!above.empty()) {
                blend(above[tiles.size()], tile, 3, grid.rows.blend);
            }
            if (!tiles.empty()) {
                blend(tiles.back(), tile, 4, grid.columns.blend);
            }
            kept.push_back(crop(tile, grid.rows.keep, grid.columns.keep));
            tiles.push_back(std::move(tile));
        }
        rows.push_back(at::cat(kept, 4));
        above = std::move(tiles);
    }
    return at::cat(rows, 3);
}

}  // namespace matrix::models::vae
