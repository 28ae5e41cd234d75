#pragma once

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/generate/settings.h"
#include "matrix/pipeline/video_pipeline.h"

namespace matrix::cli::generate {

/// What all videos of one command have in common, as far as their records say it.
struct Origin {
    std::filesystem::path model;
    std::string dtype;
    std::optional<std::filesystem::path> adapter;
    double adapter_strength = 1.0;
    bool vae_tiling = false;
    bool sequential_guidance = false;
};

/// A video on disk.
struct Made {
    std::vector<std::filesystem::path> files;
    double seconds = 0.0;
    bool was_there = false;  ///< an earlier command had made it from the same settings
};

/// Makes the videos of resolved jobs one after the other; every prompt is encoded first, so that
/// the text encoder need not stay. With `resume` those are passed over that are there and were made
/// from the same settings, images and adapter. `tell` is told of each when it is there. Leaves by
/// Stopped after a signal, with no video half written. RunError naming the file at fault: images
/// are read before anything is loaded.
void make_videos(const std::vector<Job>& jobs, pipeline::VideoPipeline& pipeline,
                 const Origin& origin, bool resume, const std::function<void(const Made&)>& tell);

}  // namespace matrix::cli::generate
