#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/data_source/manifest.h"
#include "matrix/media/video.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

// T = data.frames, H x W = data.height x data.width.

namespace matrix::data_source {

/// One mask track on disk.
struct IdFolder {
    std::int64_t id = 0;  ///< 1..5
    std::string name;     ///< "<id1>" or "id1"
    std::filesystem::path path;
    std::vector<std::string> files;  ///< one a frame, in frame order
};

/// The ID folders of a row by ID; none if it has no masks. RunError with every fault: an ID
/// outside 1..5, both spellings of one ID, an ID that the row's interactions name and that has no
/// folder.
[[nodiscard]] std::vector<IdFolder> find_id_folders(const Row& row);

/// What of a clip is to be read.
struct ClipParts {
    bool video = true;
    bool tracks = true;
    bool id_map = true;
};

/// Which parts a row has at all: tracks only with interactions, the ID map only with data.id_map.
[[nodiscard]] ClipParts parts_of(const Row& row, const data_cache::DataConfig& config);

/// A clip's files on the training grid. Parts that were not asked for are undefined.
struct Clip {
    at::Tensor video;               ///< [3, T, H, W] float32 in [-1, 1]
    std::vector<std::int64_t> ids;  ///< IDs that have masks, ascending
    at::Tensor tracks;              ///< [ids, T, H, W] uint8 of zeros and ones
    at::Tensor id_map;  ///< [3, H, W] float32 in [-1, 1]; black where there are no masks
    double frames_per_second = 0.0;  ///< the video's own average rate
};

/// Where a clip's frames are, before anything is decoded.
struct ClipPlan {
    media::VideoInfo info;
    std::vector<std::int64_t> indices;  ///< [T]
    std::vector<IdFolder> folders;
};

/// Reads headers and folders only. RunError with every fault of the row: no such video, too few
/// frames, too few masks, and those of `find_id_folders`.
[[nodiscard]] ClipPlan plan_clip(const Row& row, const data_cache::DataConfig& config);

/// Decodes. RunError naming the file: a frame that cannot be had, a mask that is damaged, has 16
/// bits a channel, or a size that is neither the video's nor of its aspect ratio.
[[nodiscard]] Clip load_clip(const Row& row, const data_cache::DataConfig& config, ClipParts parts);

/// Set pixels of each track of [n, T, H, W].
[[nodiscard]] std::vector<std::int64_t> count_pixels(const at::Tensor& tracks);

/// First-frame cells of each track of [n, T, H, W]: [n, H / 16, W / 16] uint8. `nearest`:
/// alignment.spa.query = "nearest".
[[nodiscard]] at::Tensor first_frame_cells(const at::Tensor& tracks, bool nearest);

/// A mask's size must be the video's or have its aspect ratio, each side within a pixel after
/// scaling. RunError naming the mask and both sizes.
void check_mask_size(const std::filesystem::path& mask, std::int64_t height_px,
                     std::int64_t width_px, const media::VideoInfo& video);

}  // namespace matrix::data_source
