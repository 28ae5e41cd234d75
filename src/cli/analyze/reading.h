#pragma once

#include "cli/analyze/clips.h"
#include "cli/analyze/settings.h"
#include "matrix/analysis/record.h"
#include "matrix/pipeline/video_pipeline.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace matrix::cli::analyze {

/// Where the time went.
struct Cost {
    double seconds = 0;          ///< in the transformer (with `--generate`: in making the videos)
    double reading_seconds = 0;  ///< of these in reading attention

    /// What reading adds to the rest.
    [[nodiscard]] double share() const {
        return seconds > reading_seconds ? reading_seconds / (seconds - reading_seconds) : 0;
    }
};

/// Runs the model on clips and listens to the attention of all its layers.
class Reader {
public:
    virtual ~Reader() = default;
    /// `prompts` [n, L] of all clips that will be read, so that the text encoder goes before the
    /// transformer comes.
    virtual void encode_prompts(const at::Tensor& input_ids) = 0;
    /// Loads the model, whose faults are not a clip's.
    virtual void load() = 0;
    /// `prompt`: the place among the encoded ones. `video`: where a generated video goes.
    [[nodiscard]] virtual analysis::VideoRecord read(const AnalysedClip& clip, std::int64_t prompt,
                                                     const std::filesystem::path& video) = 0;
    [[nodiscard]] virtual Cost cost() const = 0;
};

/// On the clips themselves, with noise of the given timesteps: a forward each, no sampling.
[[nodiscard]] std::unique_ptr<Reader> read_clips(const Settings& settings,
                                                 const pipeline::PipelineOptions& options,
                                                 const pipeline::VideoPipeline& pipeline);

/// While the model makes a video from the clip's first frame and prompt; the masks must be of the
/// video that this gives.
[[nodiscard]] std::unique_ptr<Reader> read_generation(const Settings& settings, at::Device device,
                                                      pipeline::VideoPipeline& pipeline);

/// Adds the time spent in a tap to `seconds`; no block runs twice where nothing is differentiated,
/// so the tap is called once.
[[nodiscard]] nn::Tap timed(nn::Tap tap, double& seconds);

}  // namespace matrix::cli::analyze
