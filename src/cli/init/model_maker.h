#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "matrix/models/cogvideox.h"
#include "matrix/models/t5.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::cli {

/// The configuration files of a preset ("tiny", "5b-i2v"), by path inside the model directory.
struct ModelFiles {
    nlohmann::json transformer, vae, text_encoder, scheduler, model_index;
};
[[nodiscard]] ModelFiles model_files(const std::string& preset);

/// A run configuration that fits the preset.
[[nodiscard]] nlohmann::json run_file(const std::string& preset);

/// Writes the configuration files and the tokenizer into `directory`.
void write_configs(const ModelFiles& files, const std::filesystem::path& directory);

/// Random weights of a transformer, in PyTorch's default distributions. They are drawn on the
/// device: a GPU draws others than a CPU from the same seed.
[[nodiscard]] tensor_io::GeneratedWeights::Generate random_transformer(
    const models::CogVideoXConfig& config, std::uint64_t seed, at::ScalarType dtype,
    at::Device device = at::kCPU);

/// The same of a text encoder, in the reference's.
[[nodiscard]] tensor_io::GeneratedWeights::Generate random_text_encoder(
    const models::T5Config& config, std::uint64_t seed, at::ScalarType dtype);

/// Random weights for the three networks whose configurations are in `directory`, in the initial
/// distributions of their references; the VAE's encoder is calibrated on a moving picture so that
/// its scaled latents have mean 0 and standard deviation 1 a channel, with a fixed, low
/// log-variance.
void write_random_weights(const std::filesystem::path& directory, std::uint64_t seed,
                          at::ScalarType dtype);

}  // namespace matrix::cli
