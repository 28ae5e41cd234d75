#pragma once

#include "matrix/alignment/objective.h"
#include "matrix/data_cache/sample.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/lora/adapter.h"
#include "matrix/models/backbone.h"
#include "matrix/train/batch.h"
#include "matrix/train/config.h"
#include "matrix/train/observer.h"
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
    std::vector<StepObserver*> observers;
};

struct RunSettings {
    TrainConfig train;
    OptimizerConfig optimizer;
    ScheduleConfig schedule;
    CheckpointConfig checkpoint;
    double head_learning_rate = 1e-3;
    bool checkpointing = true;
    std::filesystem::path output;
    std::string config_text;  ///< of the resolved config; becomes `config.json` once a checkpoint
                              ///< has proved to fit
};

/// Trains from step 0 or from the checkpoint `resume` to the last step: metrics and checkpoints
/// into `output`, the adapter directory at the end. Lines and checkpoints of later steps than the
/// first are deleted; a checkpoint that does not fit is a RunError, with `output` as it was. On
/// SIGINT or SIGTERM it saves at the next step boundary and throws Stopped. A loss or gradient that
/// is not finite stops the run (RunError naming step, clips and term; the last checkpoint stands)
/// or, with `train.non_finite` = "skip", leaves the weights as they were and goes on.
void train(const RunParts& parts, const RunSettings& settings,
           const std::optional<std::filesystem::path>& resume);

}  // namespace matrix::train
