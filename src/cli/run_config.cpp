#include "cli/run_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
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

std::vector<std::string> check_names(const RunConfig& config) {
    std::vector<std::string> faults;
    const auto require = [&](const char* field, const std::optional<std::string>& name,
                             const char* remedy) {
        if (name && name->empty()) {
            faults.push_back(std::string(field) + ": is empty; " + remedy);
        }
    };
    require("model.path", config.model.path, "name the model's directory");
    require("output", config.output, "name the run's directory");
    require("lora.init_from", config.lora.init_from, "name an adapter, or null");
    require("validation.data", config.validation.data, "name a data set, or null");
    return faults;
}

std::vector<std::string> check_size(const RunConfig& config, const pipeline::SizeRules& model) {
    std::vector<std::string> faults;
    const pipeline::VideoSize size{config.data.frames, config.data.height, config.data.width};
    for (const std::string& fault : pipeline::check_size(size, model)) {
        if (!fault.starts_with("frames")) {  // that rule is about decoding
            faults.push_back("data." + fault);
        }
    }
    return faults;
}

std::vector<std::string> model_faults(const RunConfig& config, const pipeline::SizeRules& model) {
    const models::CogVideoXConfig& transformer = model.transformer;
    std::vector<std::string> faults =
        lora::check(config.lora, transformer.num_layers, config.data.id_map);
    append(faults, alignment::check(config.alignment, transformer.num_layers));
    append(faults, check_size(config, model));
    if (transformer.num_attention_heads % config.parallel.context != 0) {
        faults.push_back("parallel.context: the model's " +
                         std::to_string(transformer.num_attention_heads) +
                         " attention heads do not divide among " +
                         std::to_string(config.parallel.context) + " ranks");
    }
    if (transformer.patch_size_t && (config.alignment.sga || config.alignment.spa)) {
        faults.emplace_back(
            "alignment: models with temporal patches (patch_size_t) have no alignment; set "
            "alignment.sga and alignment.spa to null");
    }
    const bool has_id_map = transformer.in_channels == 3 * transformer.out_channels;
    if (transformer.in_channels != 2 * transformer.out_channels &&
        !(has_id_map && config.data.id_map)) {
        faults.push_back("model.path: a transformer with " +
                         std::to_string(transformer.in_channels) +
                         " input channels does not fit data.id_map = " +
                         (config.data.id_map ? "true" : "false") + " (image-to-video models have " +
                         std::to_string(2 * transformer.out_channels) + ")");
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
    append(faults, check_names(config));
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

std::int64_t input_channels(const RunConfig& config, const models::CogVideoXConfig& transformer) {
    return config.data.id_map ? 3 * transformer.out_channels : transformer.in_channels;
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

void check_against_model(const RunConfig& config, const pipeline::SizeRules& model,
                         std::vector<std::string>& faults) {
    std::set<std::string> at_fault;  // fields, or sections that could not be read at all
    for (const std::string& fault : faults) {
        at_fault.insert(fault.substr(0, fault.find(':')));
    }
    for (std::string& fault : model_faults(config, model)) {
        const std::string field = fault.substr(0, fault.find(':'));
        const bool known = std::ranges::any_of(at_fault, [&](const std::string& name) {
            return field == name || field.starts_with(name + ".") ||
                   name.starts_with(field + ".") || name == "data.id_map";
        });
        if (!known) {
            faults.push_back(std::move(fault));
        }
    }
}

}  // namespace matrix::cli
