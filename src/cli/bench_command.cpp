#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

#include <iostream>

#include "cli/bench/report.h"
#include "cli/bench/step.h"
#include "cli/commands.h"

namespace matrix::cli {
namespace {

using bench::Request;
using Run = nlohmann::json (*)(const Request&);

void add_shape_flags(CLI::App& command, Request& r) {
    command.add_option("--preset", r.preset, "A model of matrix init: tiny, or 5b-i2v");
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
    command.add_option("--write-inputs", r.write_inputs,
                       "Write model and inputs of the first step for another program: a directory");
}

void add_measuring_flags(CLI::App& command, Request& r) {
    command.add_option("--dtype", r.dtype_name, "Compute dtype")
        ->check(CLI::IsMember({"float32", "bfloat16"}))
        ->capture_default_str();
    command.add_option("--device", r.device_name, "Device")
        ->check(CLI::IsMember({"cpu", "cuda"}))
        ->capture_default_str();
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

void bench_main(const Request& request, Run run) {
    if (request.threads > 0) {
        at::set_num_threads(static_cast<int>(request.threads));
    }
    const nlohmann::json result = run(request);
    std::cout << (request.json ? result.dump(2) + "\n" : bench::table(result));
}

void add_target(CLI::App& command, const std::string& name, const std::string& description, Run run,
                const std::string& example, Action& action) {
    auto request = std::make_shared<Request>();
    CLI::App* target = command.add_subcommand(name, description);
    add_shape_flags(*target, *request);
    if (name == "step") {
        add_step_flags(*target, *request);
    }
    add_measuring_flags(*target, *request);
    target->footer("Example:\n  matrix bench " + name + " " + example);
    add_verbosity_flags(*target);
    target->callback(
        [request, run, &action] { action = [request, run] { bench_main(*request, run); }; });
}

}  // namespace

void add_bench_command(CLI::App& app, Action& action) {
    CLI::App* command =
        app.add_subcommand("bench", "Time the program's parts on random weights; no files needed");
    command->require_subcommand(1);
    command->footer("Example:\n  matrix bench step --preset tiny");
    add_target(*command, "step", "A whole training step", bench::bench_step,
               "--preset tiny --checkpointing off --json", action);
}

}  // namespace matrix::cli
