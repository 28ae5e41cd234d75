#pragma once

#include "cli/import/mask.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

// COCO's `segmentation`. RunErrors say what is wrong; the caller knows where.

namespace matrix::imports {

/// Run lengths in column order, background first, of a mask of this size; they must fill it.
[[nodiscard]] Mask decode_runs(const std::vector<std::int64_t>& runs, std::int64_t height_px,
                               std::int64_t width_px);

/// The run lengths in COCO's compressed string: groups of five bits from the lowest on, each in one
/// character from '0' on with a sixth bit for "goes on"; from the fourth run on they hold the
/// difference to the run before the last.
[[nodiscard]] std::vector<std::int64_t> decompress_runs(std::string_view text);

/// {"size": [height, width], "counts": string or list}, or polygons [[x, y, x, y, ...], ...] on a
/// picture of the given size: a pixel belongs to a polygon when its centre lies inside by the
/// even-odd rule, and to the mask when it belongs to any. A size in the JSON must be the given one.
/// Null is an empty mask.
[[nodiscard]] Mask read_segmentation(const nlohmann::json& segmentation, std::int64_t height_px,
                                     std::int64_t width_px);

}  // namespace matrix::imports
