#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

#include <functional>
#include <iostream>

#include "cli/bench/report.h"
#include "cli/bench/step.h"
#include "cli/bench/targets.h"
#include "cli/commands.h"
#include "cli/compute_flags.h"

namespace matrix::cli {
namespace {

using bench::Request;
using Run = std::function<nlohmann::json(const Request&)>;

void add_preset_flag(CLI::App& command, Request& r) {
    command.add_option("--preset", r.preset, "A model of matrix init: tiny, or 5b-i2v");
}

void add_shape_flags(CLI::App& command, Request& r) {
    command.add_option("--shape", r.shape_text,
                       "Sizes, in latents, joined by commas: layers=N heads=N head_dim=N frames=N "
                       "height=N width=N, and text=226 channels=32 unless given");
    command.add_option("--batch", r.batch, "Samples")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
}

void add_step_flags(CLI::App& command, Request& r) {
    command.add_option("--rank", r.rank, "Rank of the low-rank deltas")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    command.add_option("--blocks", r.blocks, "Blocks with deltas: all, or a list as 0,2,5")
        ->capture_default_str();
    command.add_option("--input-projection", r.input_projection, "How the input projection trains")
        ->check(CLI::IsMember({"frozen", "full", "lora"}))
        ->capture_default_str();
    command.add_option("--sga-blocks", r.sga_blocks,
                       "Align words with masks in these blocks; none without it");
    command.add_option("--spa-blocks", r.spa_blocks,
                       "Align first-frame instances with masks in these blocks; none without it");
    command.add_option("--checkpointing", r.checkpointing, "Run blocks again in backward")
        ->check(CLI::IsMember({"on", "off"}))
        ->capture_default_str();
    command
        .add_option("--activation-budget-gib", r.activation_budget_gib,
                    "As memory.activation_budget_gib of a run, in place of --checkpointing")
        ->check(CLI::PositiveNumber);
    command.add_option("--base", r.base, "As memory.base of a run")
        ->check(CLI::IsMember({"resident", "streamed", "fp8"}))
        ->capture_default_str();
    command.add_flag("--fp8-matmul", r.fp8_matmul, "As memory.fp8_matmul of a run");
    command.add_option("--write-inputs", r.write_inputs,
                       "Write model and inputs of the first step for another program: a directory");
}

void add_measuring_flags(CLI::App& command, Request& r) {
    add_compute_flags(command, r.dtype_name, r.device_name);
    command.add_option("--threads", r.threads, "Threads on the CPU; by default PyTorch's number")
        ->check(CLI::Range(1, 1024));
    command.add_option("--warmup", r.warmup, "Repetitions that do not count")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    command.add_option("--steps", r.steps, "Repetitions that count")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    command.add_option("--seed", r.seed, "Equal seeds give equal values")->capture_default_str();
    command.add_flag("--json", r.json, "Print one JSON object");
}

void bench_main(const Request& request, const Run& run) {
    if (request.threads > 0) {
        at::set_num_threads(static_cast<int>(request.threads));
    }
    const nlohmann::json result = run(request);
    std::cout << (request.json ? result.dump(2) + "\n" : bench::table(result));
}

/// A subcommand with the flags that all have.
CLI::App& add_target(CLI::App& command, const std::string& name, const std::string& description,
                     const std::shared_ptr<Request>& request, const Run& run, Action& action) {
    CLI::App* target = command.add_subcommand(name, description);
    add_preset_flag(*target, *request);
    add_measuring_flags(*target, *request);
    target->footer("Example:\n  matrix bench " + name + " --preset tiny --json");
    add_verbosity_flags(*target);
    target->callback(
        [request, run, &action] { action = [request, run] { bench_main(*request, run); }; });
    return *target;
}

}  // namespace

void add_bench_command(CLI::App& app, Action& action) {
    CLI::App* command =
        app.add_subcommand("bench", "Time the program's parts on random weights; no files needed");
    command->require_subcommand(1);
    command->footer("Example:\n  matrix bench step --preset tiny");
    auto request = std::make_shared<Request>();
    CLI::App& step =
        add_target(*command, "step", "A whole training step", request, bench::bench_step, action);
    add_shape_flags(step, *request);
    add_step_flags(step, *request);
    for (const bench::Target& target : bench::targets()) {
        request = std::make_shared<Request>();
        const auto run = [&target](const Request& r) { return bench_target(target, r); };
        CLI::App& added =
            add_target(*command, target.name, target.description, request, run, action);
        if (target.takes_shape) {
            add_shape_flags(added, *request);
        }
    }
}

}  // namespace matrix::cli
