#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "matrix/data_cache/config.h"
#include "matrix/pipeline/video_pipeline.h"

namespace matrix::cli::analyze {

/// The flags of the command.
struct Settings {
    std::string model;
    std::string adapter;
    double adapter_strength = 1.0;
    std::string data;
    std::string out;
    std::string beside;
    std::string write_config;
    std::string outcomes;
    std::string label;
    std::string spans = "exact";
    std::vector<std::int64_t> timesteps = {100, 300, 500, 700, 900};
    bool generate = false;
    std::int64_t steps = 50;
    double guidance_scale = 6.0;
    std::int64_t seed = 42;
    std::optional<std::int64_t> frames, height, width;
    std::int64_t clips = 0;     ///< the first ones; 0: all
    std::int64_t overlays = 4;  ///< clips that are drawn
    std::int64_t layers_per_variant = 1;
    double dummy_variance = 1e-12;
    std::string device = "auto";
    std::string dtype;
    bool json = false;
};

/// The clip as the model sees it: size from the flags or the model, no cache. UsageError for a size
/// that the model cannot make.
[[nodiscard]] data_cache::DataConfig data_config(const Settings& settings,
                                                 const pipeline::VideoPipeline& pipeline);

}  // namespace matrix::cli::analyze
