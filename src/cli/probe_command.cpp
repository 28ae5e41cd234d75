#include <ATen/ATen.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "cli/commands.h"
#include "cli/compute_flags.h"
#include "cli/probe/parts.h"
#include "matrix/core/error.h"
#include "matrix/log/log.h"

namespace matrix::cli {
namespace {

using probe::Part;
using probe::Request;

const std::set<std::string> kFlagsOfAll = {"--part",  "--outputs", "--dtype", "--device",
                                           "--quiet", "--verbose", "--help"};

const Part& find_part(const std::string& name) {
    std::vector<std::string> names;
    for (const Part& part : probe::parts()) {
        if (part.name == name) {
            return part;
        }
        names.push_back(part.name);
    }
    const auto nearest = did_you_mean(name, names);
    throw UsageError("--part: there is no part \"" + name + "\"" +
                     (nearest ? "; did you mean \"" + *nearest + "\"?" : ""));
}

bool contains(const std::vector<std::string>& list, const std::string& item) {
    return std::find(list.begin(), list.end(), item) != list.end();
}

/// UsageError unless `given` holds all flags that the part needs and none that it does not take.
void check_flags(const Part& part, const std::set<std::string>& given) {
    std::vector<std::string> faults;
    for (const std::string& flag : given) {
        if (kFlagsOfAll.count(flag) == 0 && !contains(part.required, flag) &&
            !contains(part.optional, flag)) {
            faults.push_back(flag + ": the part " + part.name + " does not take it");
        }
    }
    for (const std::string& flag : part.required) {
        if (given.count(flag) == 0) {
            faults.push_back(flag + " is required by the part " + part.name);
        }
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
}

void check_finite(const tensor_io::TensorMap& outputs) {
    for (const auto& [name, tensor] : outputs) {
        if (tensor.is_floating_point() && !at::isfinite(tensor).all().item<bool>()) {
            throw RunError(name + ": the result is not finite");
        }
    }
}

/// By flag, all paths but that of the outputs.
std::map<std::string, std::string> paths_of(const Request& r) {
    return {{"--model", r.model},
            {"--inputs", r.inputs},
            {"--adapter", r.adapter},
            {"--config", r.config},
            {"--save-checkpoint", r.save_checkpoint},
            {"--prompts", r.prompts.value_or("")}};
}

/// UsageError for a path that was given and is empty.
void check_paths(const Request& request, const std::set<std::string>& given) {
    std::vector<std::string> faults;
    if (request.outputs.empty()) {
        faults.emplace_back("--outputs: is empty");
    }
    for (const auto& [flag, path] : paths_of(request)) {
        if (given.count(flag) != 0 && path.empty()) {
            faults.push_back(flag + ": is empty");
        }
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
}

void run_part(const Request& request, const std::set<std::string>& given) {
    const Part& part = find_part(request.part);
    check_flags(part, given);
    check_paths(request, given);
    const probe::Result result = part.run(request);
    check_finite(result.outputs);
    tensor_io::write_safetensors(request.outputs, result.outputs);
    if (result.after) {
        result.after();
    }
}

/// After a failure nothing may pass for its result, not what an earlier run left there either.
void remove_outputs(const Request& request) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    for (const auto& [flag, path] : paths_of(request)) {
        if (fs::equivalent(path, request.outputs, ignored)) {
            return;
        }
    }
    if (fs::is_regular_file(request.outputs, ignored)) {
        fs::remove(request.outputs, ignored);
    }
}

/// All faults as one line: the first, and how many more there are.
std::string first_of(const std::vector<std::string>& faults) {
    return faults.front() + (faults.size() > 1
                                 ? " (and " + std::to_string(faults.size() - 1) + " more)"
                                 : std::string());
}

void probe_main(const Request& request, const std::set<std::string>& given) {
    if (given.count("--verbose") == 0) {
        log::configure(
            log::Level::kError);  // a failure is one line on stderr, with no warning before it
    }
    try {
        run_part(request, given);
    } catch (const UsageError& error) {
        remove_outputs(request);
        throw UsageError(first_of(error.faults()));
    } catch (const RunError& error) {
        remove_outputs(request);
        throw RunError(first_of(error.faults()));
    } catch (...) {
        remove_outputs(request);
        throw;
    }
}

void add_flags(CLI::App& command, Request& r) {
    command.add_option("--part", r.part, "What to run")->required();
    command.add_option("--model", r.model, "Hugging Face directory of a CogVideoX model");
    command.add_option("--inputs", r.inputs, "Safetensors file");
    command.add_option("--outputs", r.outputs, "Safetensors file to write")->required();
    add_compute_flags(command, r.dtype_name, r.device_name);
    command.add_flag("--grad", r.grad, "Write gradients too");
    command.add_option("--adapter", r.adapter, "A LoRA in the diffusers layout, or a checkpoint");
    command
        .add_option("--set", r.assignments, "Set one field of alignment: path=value (repeatable)")
        ->take_all()
        ->allow_extra_args(false);
    command.add_option("--readout", r.readout, "readout.*: what is read from attention")
        ->check(CLI::IsMember({"logits", "probabilities"}))
        ->capture_default_str();
    command.add_option("--head", r.head, "head: which of the two")
        ->check(CLI::IsMember({"grounding", "propagation"}));
    command.add_option("--heads", r.heads, "objective: the two networks, or the map as it is")
        ->check(CLI::IsMember({"decoder", "nearest"}))
        ->capture_default_str();
    command.add_option("--seed", r.seed, "head, objective: equal seeds give equal heads")
        ->capture_default_str();
    command.add_option("--save-checkpoint", r.save_checkpoint,
                       "objective: write what would train as a checkpoint");
    command.add_option("--prompt", r.prompt, "tokenizer, text, generate: one prompt");
    command.add_option("--prompts", r.prompts, "tokenizer, text: a JSON array of prompts");
    command.add_option("--frames", r.frames, "rope: latent frames; generate: frames");
    command.add_option("--height", r.height, "rope: latent rows; generate: pixels");
    command.add_option("--width", r.width, "rope: latent columns; generate: pixels");
    command.add_flag("--tiling", r.tiling, "vae.*, generate: in overlapping tiles");
    command.add_option("--steps", r.steps,
                       "scheduler.ddim, scheduler.dpm, sample, generate: how many");
    command.add_option("--scheduler", r.scheduler, "sample, generate: which")
        ->check(CLI::IsMember({"ddim", "dpm"}));
    command.add_option("--guidance", r.guidance, "sample, generate: scale; none up to 1");
    command.add_flag("--dynamic-cfg", r.dynamic_cfg,
                     "sample, generate: a scale that follows the timestep");
    command.add_option("--cmg-blocks", r.cmg_blocks, "sample: blocks that CMG perturbs")
        ->delimiter(',');
    command.add_option("--cag-blocks", r.cag_blocks, "sample: blocks that CAG perturbs")
        ->delimiter(',');
    command
        .add_option("--perturbation-scale", r.perturbation_scale, "sample: scale of CMG and CAG")
        ->capture_default_str();
    command.add_option("--config", r.config, "data: a run file");
    command.add_option("--index", r.index, "data: row of the data set, from 0");
}

}  // namespace

void add_probe_command(CLI::App& app, Action& action) {
    auto request = std::make_shared<Request>();
    CLI::App* command = app.add_subcommand(
        "probe", "Run one part of the program on given tensors, to compare it with a reference");
    add_flags(*command, *request);
    command->footer(
        "Example:\n  matrix probe --part transformer --model models/tiny --inputs in.safetensors "
        "--outputs out.safetensors");
    add_verbosity_flags(*command);
    command->callback([command, request, &action] {
        std::set<std::string> given;
        for (const CLI::Option* option : command->get_options()) {
            if (option->count() > 0) {
                given.insert(option->get_name());
            }
        }
        action = [request, given] { probe_main(*request, given); };
    });
}

}  // namespace matrix::cli
