#include "cli/pictures/about_run.h"

#include <filesystem>

#include "matrix/models/cogvideox.h"

namespace matrix::cli::pictures {

bool has_random_weights(const RunConfig& config) {
    // `init` alone writes a run file into a model directory.
    return std::filesystem::exists(std::filesystem::path(config.model.path) / "run.json");
}

std::string about_run(const RunConfig& config) {
    const std::filesystem::path model = config.model.path;
    const auto transformer =
        models::CogVideoXConfig::from_file(model / "transformer" / "config.json");
    const std::string size =
        std::to_string(transformer.num_layers) + " blocks of width " +
        std::to_string(transformer.num_attention_heads * transformer.attention_head_dim);
    const std::string base =
        has_random_weights(config)
            ? "a randomly initialised base model (" + size + ")"
            : std::filesystem::absolute(model).lexically_normal().filename().string() + " (" +
                  size + ")";
    return "LoRA of rank " + std::to_string(config.lora.rank) + " on " + base + ", " +
           std::to_string(config.train.steps) + " training steps.";
}

}  // namespace matrix::cli::pictures
