#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "matrix/alignment/objective.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/lora/adapter.h"
#include "matrix/models/cogvideox.h"
#include "matrix/tensor_io/safetensors.h"
#include "matrix/tensor_io/weights.h"
#include "matrix/train/step.h"

namespace matrix::test {

/// The run of scripts/fixtures/make_trajectory.py: its inputs as batches, and the same run ready to
/// be trained here.
class Trajectory {
public:
    explicit Trajectory(at::Device device = at::kCPU)
        : run(nlohmann::json::parse(std::ifstream(directory() / "run.json"))),
          reference(tensor_io::SafetensorsFile(directory() / "trajectory.safetensors").all()),
          schedule(diffusion::SchedulerConfig::from_file(directory() / "scheduler_config.json")) {
        tensor_io::FileWeights weights(directory(), "transformer", at::kFloat, device);
        model = std::make_unique<models::CogVideoXTransformer>(
            models::CogVideoXConfig::from_file(directory() / "config.json"), weights);
        model->widen_input(48);
        lora::LoraConfig lora;
        lora.rank = run["rank"];
        lora.alpha = run["alpha"];
        lora.blocks = run["lora_blocks"].get<std::vector<std::int64_t>>();
        lora::attach_new(*model, lora, 0);
        objective = alignment::make_matrix_objective(alignment(), 0, device);
        trained = lora::trained_parameters(*model);
        trained.merge(objective->parameters());
        const at::NoGradGuard no_grad;
        for (const auto& [name, tensor] : trained) {
            if (name.find(".lora_") != std::string::npos) {
                tensor.detach().copy_(reference.at("initial." + name));
            }
        }
        optimizer =
            std::make_unique<train::AdamW>(trained, optimizer_config(), run["head_learning_rate"]);
    }

    [[nodiscard]] static std::filesystem::path directory() {
        return std::filesystem::path(MATRIX_FIXTURES) / "trajectory";
    }
    [[nodiscard]] std::int64_t steps() const { return run["steps"]; }

    /// The inputs of step `step`, samples `begin` to `end` of its two.
    [[nodiscard]] train::Batch batch(std::int64_t step, std::int64_t begin = 0,
                                     std::int64_t end = 2) const {
        const at::Tensor rows = reference.at("rows")[step].slice(0, begin, end);
        const auto of = [&](const char* name) { return reference.at(name).index_select(0, rows); };
        const auto first_frame = [&](const char* name) {  // [B, C, h, w] to [B, F, C, h, w]
            return at::constant_pad_nd(of(name).to(at::kFloat).unsqueeze(1),
                                       {0, 0, 0, 0, 0, 0, 0, 2});
        };
        train::Batch batch;
        batch.latents = of("latents").to(at::kFloat);
        batch.noise = reference.at("noise")[step].slice(0, begin, end).to(at::kFloat);
        batch.timestep = reference.at("timesteps")[step].slice(0, begin, end);
        batch.image_latents = first_frame("image");
        batch.id_map_latents = first_frame("id_map");
        batch.encoder_hidden_states = of("prompt").to(at::kFloat);
        batch.supervision = {of("token_mask"), of("query_mask"), painted(of("boxes"))};
        for (std::int64_t i = begin; i < end; ++i) {
            batch.sample_numbers.push_back(2 * step + i);
            batch.names.push_back("clip " + std::to_string(rows[i - begin].item<std::int64_t>()));
        }
        return batch;
    }

    train::StepResult train_step(std::int64_t step, bool accumulate, nn::Keep keep) {
        const std::vector<train::Batch> batches =
            accumulate ? std::vector{batch(step, 0, 1), batch(step, 1, 2)}
                       : std::vector{batch(step)};
        const double factor =
            train::learning_rate_factor({"cosine", run["warmup_steps"]}, step, steps());
        return train_on(batches, *optimizer, factor, keep);
    }

    train::StepResult train_on(const std::vector<train::Batch>& batches, train::AdamW& with,
                               double factor, nn::Keep keep) {
        auto next = batches.begin();
        const train::Ranks ranks = train::Ranks::single();
        train::GradientExchange gradients(with.parameters(), ranks.all);
        return train::training_step([&] { return *next++; },
                                    {*model, schedule, *objective, with, gradients, ranks},
                                    {static_cast<std::int64_t>(batches.size()), factor, {keep}});
    }

    nlohmann::json run;
    tensor_io::TensorMap reference;
    diffusion::NoiseSchedule schedule;
    std::unique_ptr<models::CogVideoXTransformer> model;
    std::unique_ptr<alignment::Objective> objective;
    std::map<std::string, at::Tensor> trained;
    std::unique_ptr<train::AdamW> optimizer;

private:
    [[nodiscard]] alignment::AlignmentConfig alignment() const {
        alignment::AlignmentConfig config;
        config.sga->blocks = run["sga_blocks"].get<std::vector<std::int64_t>>();
        config.sga->weight = run["sga_weight"];
        config.spa->blocks = run["spa_blocks"].get<std::vector<std::int64_t>>();
        config.spa->weight = run["spa_weight"];
        config.head = "affine";
        config.bce = run["bce"];
        config.dice = run["dice"];
        config.l2 = run["l2"];
        return config;
    }
    [[nodiscard]] train::OptimizerConfig optimizer_config() const {
        return {run["learning_rate"], run["betas"].get<std::vector<double>>(), run["eps"],
                run["weight_decay"], run["max_grad_norm"]};
    }
    /// Boxes [..., 4] (top, bottom, left, right) as masks [..., 32, 48].
    [[nodiscard]] static at::Tensor painted(const at::Tensor& boxes) {
        const at::Tensor flat = boxes.to(at::kLong).reshape({-1, 4});
        at::Tensor masks = at::zeros({flat.size(0), 32, 48}, at::kByte);
        for (std::int64_t i = 0; i < flat.size(0); ++i) {
            const auto* box = flat[i].const_data_ptr<std::int64_t>();
            masks[i].slice(0, box[0], box[1]).slice(1, box[2], box[3]).fill_(1);
        }
        std::vector<std::int64_t> shape = boxes.sizes().vec();
        shape.back() = 32;
        shape.push_back(48);
        return masks.view(shape);
    }
};

}  // namespace matrix::test
