#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/media/video.h"

#include <cstdint>
#include <filesystem>
#include <vector>

namespace matrix::data_source {

/// Which frames of a video make the clip: T ascending indices, of which neighbours are equal only
/// with data.fps above the video's own rate.
///   head     0 .. T-1; with data.fps, index i is the frame nearest to i / fps, the earlier one on
///   a tie uniform  floor(i n / T) stride   i * data.stride
/// RunError naming the video, the frames it has and the frames it would need.
[[nodiscard]] std::vector<std::int64_t> frame_indices(const data_cache::DataConfig& config,
                                                      const media::VideoInfo& info,
                                                      const std::filesystem::path& video);

}  // namespace matrix::data_source
