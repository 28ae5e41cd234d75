#pragma once

#include "matrix/alignment/objective.h"
#include "matrix/data_cache/sample.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/lora/adapter.h"
#include "matrix/models/backbone.h"
#include "matrix/train/batch.h"
#include "matrix/train/config.h"
#include "matrix/train/observer.h"
#include "matrix/train/ranks.h"
#include "matrix/train/step.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace matrix::train {

/// What a run works on; the program assembles it and keeps it alive.
struct RunParts {
    models::Backbone& backbone;  ///< with everything that trains attached
    const diffusion::NoiseSchedule& schedule;
    alignment::Objective& objective;
    const data_cache::SampleSource& samples;
    BatchRules rules;
    lora::AdapterInfo adapter_info;
    std::vector<StepObserver*>
        observers;  ///< on every rank, so that they may run the model together
    Ranks ranks = Ranks::single();
};

struct RunSettings {
    TrainConfig train;
    OptimizerConfig optimizer;
    ScheduleConfig schedule;
    CheckpointConfig checkpoint;
    double head_learning_rate = 1e-3;
    std::vector<nn::Keep> keep = {nn::Keep::kAttention};  ///< by block, as models::ForwardOptions
    std::int64_t verify_every_steps = 100;  ///< that the ranks hold the same trained tensors
    std::filesystem::path output;
    std::string config_text;  ///< of the resolved config; becomes `config.json` once a checkpoint
                              ///< has proved to fit
    /// What a checkpoint keeps of it, to tell later what changed: a JSON object, or empty.
    std::string checkpoint_config;
};

/// Trains from step 0 or from the checkpoint `resume` to the last step: metrics and checkpoints
/// into `output`, the adapter directory at the end. Lines and checkpoints of later steps than the
/// first are deleted; a checkpoint that does not fit is a RunError, with `output` as it was.
///
/// All ranks call it; rank 0 alone reads the checkpoint and writes. They begin with the same
/// trained tensors (rank 0's), take their shares of every step's samples, and end alike: a signal
/// to any of them saves at the next step boundary and throws Stopped on all.
///
/// A loss or gradient that is not finite on any rank changes no weight on any. It stops the run
/// (RunError naming step, clips and term; the last checkpoint stands); or, with `train.non_finite`
/// = "skip", the run goes on; or, with "rollback", it goes back to the last checkpoint and passes
/// over the samples of that step on the way. A second failure before the next checkpoint stops.
void train(const RunParts& parts, const RunSettings& settings,
           const std::optional<std::filesystem::path>& resume);

}  // namespace matrix::train
