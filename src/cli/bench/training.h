#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/bench/request.h"
#include "cli/memory/plan.h"
#include "matrix/alignment/objective.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/lora/config.h"
#include "matrix/models/cogvideox.h"
#include "matrix/tensor_io/safetensors.h"
#include "matrix/train/gradient_exchange.h"
#include "matrix/train/optimizer.h"
#include "matrix/train/ranks.h"
#include "matrix/train/step.h"

namespace matrix::cli::bench {

/// The 5B model's schedule.
[[nodiscard]] diffusion::NoiseSchedule training_schedule();

/// A transformer with random weights; `kept`, if given, gets them by their checkpoint keys.
[[nodiscard]] std::unique_ptr<models::CogVideoXTransformer> random_model(
    const Shape& shape, std::uint64_t seed, at::ScalarType dtype, at::Device device,
    tensor_io::TensorMap* kept = nullptr,
    std::unique_ptr<models::BlockWeights> blocks = models::resident_blocks());

/// Random latents, noise, timesteps and prompts, and one interaction of two boxes a sample, or none
/// without `supervised`.
[[nodiscard]] train::Batch random_batch(const Shape& shape, std::int64_t batch, std::uint64_t seed,
                                        bool supervised);

/// All that a training step works on, as `matrix train` has it, with random values everywhere: B of
/// the low-rank deltas and the last layers of the heads too, so that nothing that trains has a
/// gradient of zero.
class Training {
public:
    /// UsageError for options that do not fit together.
    explicit Training(const Request& request);

    /// One optimizer step on the batch, which is always the same.
    [[nodiscard]] train::StepResult step();

    /// Writes what the first step works on, before it is done, for another program: the model in
    /// the Hugging Face layout, every tensor in `inputs.safetensors`, the rest in `bench.json`.
    void write_inputs(const std::filesystem::path& directory) const;

    /// How a run of these sizes would be made to fit, and is made here.
    [[nodiscard]] const MemoryPlan& plan() const { return plan_; }
    /// Bytes of tensors by what they are for, as long as the optimizer lives.
    [[nodiscard]] std::int64_t weight_bytes() const;
    /// Of weights that are in the host's memory for a device which is the host itself.
    [[nodiscard]] std::int64_t host_copy_bytes() const;
    [[nodiscard]] std::int64_t trained_bytes() const;
    [[nodiscard]] std::int64_t optimizer_bytes() const;

    [[nodiscard]] const Shape& shape() const { return shape_; }
    [[nodiscard]] const lora::LoraConfig& lora() const { return lora_; }
    [[nodiscard]] const alignment::AlignmentConfig& alignment() const { return alignment_; }
    [[nodiscard]] at::Device device() const { return model_->device(); }

private:
    [[nodiscard]] std::map<std::string, at::Tensor> make_parameters() const;

    Shape shape_;
    std::int64_t batch_size_;
    std::uint64_t seed_;
    lora::LoraConfig lora_;
    alignment::AlignmentConfig alignment_;
    train::OptimizerConfig optimizer_config_;
    MemoryPlan plan_;
    diffusion::NoiseSchedule schedule_;
    tensor_io::TensorMap kept_weights_;  // empty unless they are to be written
    std::unique_ptr<models::CogVideoXTransformer> model_;
    std::unique_ptr<alignment::Objective> objective_;
    train::Batch batch_;
    train::AdamW optimizer_;
    train::Ranks ranks_;
    train::GradientExchange gradients_;
};

}  // namespace matrix::cli::bench
