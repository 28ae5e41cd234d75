#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "matrix/core/fields.h"
#include "matrix/pipeline/video_pipeline.h"

namespace matrix::cli::generate {

/// What a user says of one video: the flags of the command, or a row of a batch. What is not said
/// is the model's.
struct VideoSettings {
    std::string prompt;
    std::string negative_prompt;
    std::optional<std::string> image;
    std::optional<std::string> id_map;
    std::string out;
    std::vector<std::string> formats;  ///< "mp4", "gif", "png"; empty: by the ending of `out`
    std::int64_t seed = 42;
    std::optional<std::int64_t> frames;
    std::optional<std::int64_t> height;
    std::optional<std::int64_t> width;
    std::optional<double> fps;
    std::int64_t steps = 50;
    std::optional<std::string> sampler;
    double guidance_scale = 6.0;
    bool dynamic_cfg = false;
    std::vector<std::string> guidance;  ///< "cmg", "cag"
    std::vector<std::int64_t> cmg_blocks;
    std::vector<std::int64_t> cag_blocks;
    double perturbation_scale = 1.0;
    std::optional<std::string> interactions;  ///< JSON, as in a data set's row
    std::optional<std::string> mask_tracks;
};

/// A batch's row has these fields; `where` is the place that faults name.
[[nodiscard]] FieldTable fields(VideoSettings& settings);

struct Job {
    std::string where;  ///< "" for the command line, "jobs.jsonl:3" for a row
    VideoSettings settings;
};

/// One job for each line of a JSONL file, what the line leaves out from `defaults`. `image`,
/// `id_map` and `mask_tracks` are relative to the file's directory; `out` is below `directory`, and
/// without it the line's number, "000003.mp4". UsageError with all faults.
[[nodiscard]] std::vector<Job> read_batch(const std::filesystem::path& path,
                                          const VideoSettings& defaults,
                                          const std::filesystem::path& directory);

/// Fills in what the model decides. UsageError with every fault of every job: sizes that the model
/// cannot make (with the nearest that it can), a missing prompt or image, conditions that it has no
/// channels for, two jobs of one output.
void resolve(std::vector<Job>& jobs, const pipeline::VideoPipeline& pipeline);

/// Of resolved settings.
[[nodiscard]] pipeline::VideoSize size_of(const VideoSettings& settings);

}  // namespace matrix::cli::generate
