#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "eval/result_file.h"
#include "matrix/eval/asking.h"

namespace matrix::eval {

/// One generated video with its overlay, as the steps 7 and 8 look at it.
struct VideoToJudge {
    std::string model;
    std::string data_type;
    Scenario scenario;
    std::filesystem::path overlay;
    std::string overlay_hash;
    std::vector<std::int64_t> frames;  ///< the sampled ones
    std::int64_t width_px = 0;
    std::int64_t height_px = 0;
};

/// What a step does with a video.
struct VideoWork {
    std::string inputs;  ///< everything that its requests depend on, for a hash
    Cost cost;
    std::function<Json()> judge;  ///< the entry of the step's file
};

struct VideoStep {
    std::string name;
    std::function<std::filesystem::path(const std::string& model, const std::string& type)> file;
    std::function<VideoWork(const VideoToJudge&)> work;
};

/// A task for every video of the selection that has no entry yet, or one made from other inputs
/// (`inputs` in the entry; entries without it, from elsewhere, are taken as they are, as are those
/// whose overlay is gone).
[[nodiscard]] Plan plan_videos(const Asking& asking, const VideoStep& step);

}  // namespace matrix::eval
