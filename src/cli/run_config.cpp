#include "cli/run_config.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix::cli {
namespace {

FieldTable fields(ModelSection& c) {
    FieldTable table;
    table.add("path", c.path, "Hugging Face directory of a CogVideoX model.");
    table
        .add("dtype", c.dtype,
             "Dtype of the frozen weights and the activations; what trains is float32.")
        .one_of({"float32", "bfloat16"});
    table.add("device", c.device, "\"auto\" takes a GPU where there is one.")
        .one_of({"auto", "cpu", "cuda"});
    return table;
}

void append(std::vector<std::string>& faults, std::vector<std::string> more) {
    faults.insert(faults.end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
}

/// Of videos on the way.
std::vector<std::string> check_samples(const RunConfig& config) {
    std::vector<std::string> faults;
    if (config.validation.samples.every_steps == 0) {
        return faults;
    }
#ifndef MATRIX_WITH_ENCODERS
    faults.emplace_back(
        "validation.samples.every_steps: this program was built without video files "
        "(MATRIX_WITH_MEDIA, MATRIX_WITH_TEXT) and makes no videos; set it to 0");
#endif
    if (config.data.frames % 8 != 1) {
        faults.push_back("validation.samples: videos have 8k + 1 frames, and data.frames is " +
                         std::to_string(config.data.frames) +
                         "; change it, or set validation.samples.every_steps to 0");
    }
    return faults;
}

}  // namespace

FieldTable fields(RunConfig& c) {
    FieldTable table;
    table.add_section("model", fields(c.model), "The frozen base.");
    table.add_section("data", data_cache::fields(c.data), "Clips and how they become samples.");
    table.add_section("lora", lora::fields(c.lora), "What trains in the backbone.");
    table.add_section("alignment", alignment::fields(c.alignment),
                      "The two MATRIX losses and their heads.");
    table.add_section("optimizer", train::fields(c.optimizer), "AdamW.");
    table.add_section("schedule", train::fields(c.schedule), "The learning rate over the run.");
    table.add_section("train", train::fields(c.train), "Length and batch of the run.");
    table.add_section("memory", train::fields(c.memory),
                      "What is kept for backward, and where the base lives.");
    table.add_section("parallel", train::fields(c.parallel), "Several processes.");
    table.add_section("checkpoint", train::fields(c.checkpoint), "When state is saved.");
    table.add_section("validation", train::fields(c.validation),
                      "Held-out loss and attention scores.");
    table.add("output", c.output, "Run directory.");
    return table;
}

RunConfig read_run_config(const std::filesystem::path& path,
                          const std::vector<std::string>& assignments,
                          std::vector<std::string>& faults) {
    RunConfig config;
    const FieldTable table = fields(config);
    try {
        nlohmann::json json = parse_json(read_text_file(path), path.string());
        if (json.is_object()) {
            json.erase("$schema");
        }
        table.read(json, faults);
    } catch (const RunError& error) {
        append(faults, error.faults());
    }
    for (const std::string& assignment : assignments) {
        table.set(assignment, faults);
    }
    append(faults, data_cache::check(config.data));
    append(faults,
           train::check(config.train, config.checkpoint, config.validation, config.alignment));
    append(faults, check_samples(config));
    if (config.parallel.shard_base && config.memory.base != "auto" &&
        config.memory.base != "resident") {
        faults.push_back("parallel.shard_base: a base that is shared out cannot be " +
                         config.memory.base + " too; set memory.base to \"auto\"");
    }
    if (config.memory.fp8_matmul && config.memory.base != "fp8") {
        faults.push_back("memory.fp8_matmul: a base of \"" + config.memory.base +
                         "\" has no float8 weights to multiply by; set memory.base to \"fp8\"");
    }
    return config;
}

RunConfig read_run_config(const std::filesystem::path& path,
                          const std::vector<std::string>& assignments) {
    std::vector<std::string> faults;
    RunConfig config = read_run_config(path, assignments, faults);
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
    return config;
}

std::vector<std::string> warnings(const RunConfig& config) {
    std::vector<std::string> lines = alignment::warnings(config.alignment);
    if (config.validation.data && config.validation.every_steps == 0 &&
        config.validation.samples.every_steps == 0) {
        lines.emplace_back(
            "validation.data: not read, since validation.every_steps = 0 switches validation off");
    }
    if (config.schedule.warmup_steps >= config.train.steps) {
        lines.push_back("schedule.warmup_steps: the run ends after " +
                        std::to_string(config.train.steps) +
                        " steps, before the learning rate has risen to its value");
    }
    return lines;
}

std::vector<std::string> check_against_model(const RunConfig& config, std::int64_t num_blocks,
                                             std::int64_t num_heads, bool temporal_patches) {
    std::vector<std::string> faults = lora::check(config.lora, num_blocks, config.data.id_map);
    append(faults, alignment::check(config.alignment, num_blocks));
    if (num_heads % config.parallel.context != 0) {
        faults.push_back("parallel.context: the model's " + std::to_string(num_heads) +
                         " attention heads do not divide among " +
                         std::to_string(config.parallel.context) + " ranks");
    }
    if (temporal_patches && (config.alignment.sga || config.alignment.spa)) {
        faults.emplace_back(
            "alignment: models with temporal patches (patch_size_t) have no alignment; set "
            "alignment.sga "
            "and alignment.spa to null");
    }
    return faults;
}

}  // namespace matrix::cli
