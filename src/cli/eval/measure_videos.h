#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "matrix/eval/layout.h"

namespace matrix::cli::eval {

/// What was measured of one video.
struct VideoRow {
    std::string model, data_type, video;
    /// By metric, those that could be had. Counts are sums over the tracks, the others means.
    std::map<std::string, double> values;
    /// By folder name, each track's own values; null for one that it does not have.
    nlohmann::ordered_json tracks = nlohmann::ordered_json::object();
};

struct Measured {
    std::vector<VideoRow> rows;
    std::vector<std::string> faults;  ///< one line for each thing that had to be left out
};

/// The mask tracks and first frames of every model and video under `layout`, with a progress bar.
/// RunError where there is no video at all; Stopped after a signal.
[[nodiscard]] Measured measure_videos(const matrix::eval::Layout& layout);

}  // namespace matrix::cli::eval
