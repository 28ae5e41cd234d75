#pragma once

#include "matrix/alignment/config.h"
#include "matrix/core/fields.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace matrix::train {

/// AdamW over every trained tensor; defaults of the diffusers I2V LoRA script.
struct OptimizerConfig {
    double learning_rate = 1e-4;
    std::vector<double> betas = {0.9, 0.95};
    double eps = 1e-8;
    double weight_decay = 1e-4;
    double max_grad_norm = 1.0;  ///< 0 switches clipping off
};

/// The learning rate's factor over the run, as diffusers' schedulers of the same names: linear
/// warm-up from 0, then constant, linear to 0, or half a cosine to 0.
struct ScheduleConfig {
    std::string name = "cosine";
    std::int64_t warmup_steps = 100;
};

struct TrainConfig {
    std::int64_t steps = 4000;
    std::int64_t batch_size = 1;  ///< per rank
    std::int64_t gradient_accumulation = 1;
    std::int64_t seed = 42;
    std::string non_finite = "stop";  ///< "skip", "rollback": where loss or gradient is not finite
};

struct MemoryConfig {
    bool checkpointing = true;
    std::optional<double> activation_budget_gib;
    std::optional<double> device_budget_gib;  ///< empty: "auto"
    std::string base = "auto";
    bool fp8_matmul = false;
};

struct ParallelConfig {
    std::string backend = "auto";
    bool shard_base = false;
    std::int64_t context = 1;
    std::int64_t timeout_seconds = 600;
    std::int64_t verify_every_steps = 100;
};

struct CheckpointConfig {
    std::int64_t every_steps = 500;
    std::int64_t keep_last = 3;
    std::optional<std::string> best_metric = std::nullopt;  ///< a score of train/validation.h
};

/// Videos on the way.
struct SamplesConfig {
    std::int64_t every_steps = 0;  ///< 0: never
    std::int64_t clips = 2;
    std::int64_t steps = 30;
    double guidance_scale = 6.0;
};

/// What the supervised attention looks like on the way.
struct OverlaysConfig {
    std::int64_t every_steps = 0;  ///< 0: before the first and after the last step alone
};

struct ValidationConfig {
    std::int64_t every_steps = 0;  ///< 0: never
    std::optional<std::string> data;
    SamplesConfig samples;
    OverlaysConfig overlays;
};

[[nodiscard]] FieldTable fields(OptimizerConfig& config);
[[nodiscard]] FieldTable fields(ScheduleConfig& config);
[[nodiscard]] FieldTable fields(TrainConfig& config);
[[nodiscard]] FieldTable fields(MemoryConfig& config);
[[nodiscard]] FieldTable fields(ParallelConfig& config);
[[nodiscard]] FieldTable fields(CheckpointConfig& config);
[[nodiscard]] FieldTable fields(ValidationConfig& config);

/// Faults that no single field shows, one line each: a best checkpoint by a score that no
/// validation of this run computes, a rollback to checkpoints that it does not write.
[[nodiscard]] std::vector<std::string> check(const TrainConfig& train,
                                             const CheckpointConfig& checkpoint,
                                             const ValidationConfig& validation,
                                             const alignment::AlignmentConfig& alignment);

}  // namespace matrix::train
