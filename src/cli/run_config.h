#pragma once

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "matrix/alignment/config.h"
#include "matrix/core/fields.h"
#include "matrix/data_cache/config.h"
#include "matrix/lora/config.h"
#include "matrix/pipeline/video_size.h"
#include "matrix/train/config.h"

namespace matrix::cli {

struct ModelSection {
    std::string path = "models/CogVideoX-5b-I2V";
    std::string dtype = "bfloat16";
    std::string device = "auto";
};

/// A run is one JSON file: every component's block, each declared by the component itself.
struct RunConfig {
    ModelSection model;
    data_cache::DataConfig data;
    lora::LoraConfig lora;
    alignment::AlignmentConfig alignment;
    train::OptimizerConfig optimizer;
    train::ScheduleConfig schedule;
    train::TrainConfig train;
    train::MemoryConfig memory;
    train::ParallelConfig parallel;
    train::CheckpointConfig checkpoint;
    train::ValidationConfig validation;
    std::string output = "runs/matrix-5b-i2v";
};

[[nodiscard]] FieldTable fields(RunConfig& config);

/// Reads a run file and applies `--set path=value` assignments, in order. UsageError with every
/// fault of the file, the assignments and the combinations that need no model, all at once. A
/// "$schema" at the top is for editors.
[[nodiscard]] RunConfig read_run_config(const std::filesystem::path& path,
                                        const std::vector<std::string>& assignments);

/// The same with the faults appended to `faults`; what is at fault keeps its default.
[[nodiscard]] RunConfig read_run_config(const std::filesystem::path& path,
                                        const std::vector<std::string>& assignments,
                                        std::vector<std::string>& faults);

/// What is allowed but does nothing or not what one may expect, one line each: said at the start of
/// a run and by `check config`.
[[nodiscard]] std::vector<std::string> warnings(const RunConfig& config);

/// Channels of the run's input: the model's own, with data.id_map those of the ID map too.
[[nodiscard]] std::int64_t input_channels(const RunConfig& config,
                                          const models::CogVideoXConfig& transformer);

/// Appends what shows only against the model: blocks it does not have, heads that do not divide
/// among ranks, sizes and input channels that are not its own; one line each. What `faults` says of
/// a field already is not said again.
void check_against_model(const RunConfig& config, const pipeline::SizeRules& model,
                         std::vector<std::string>& faults);

}  // namespace matrix::cli
