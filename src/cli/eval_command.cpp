#include <CLI/CLI.hpp>

#include "cli/eval/commands.h"

namespace matrix::cli {

void add_eval_command(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand(
        "eval", "InterGenEval: judge generated videos by questions to a vision-language model");
    command->require_subcommand(1);
    command->footer(
        "Example:\n  matrix eval run --root eval --api-base https://api.openai.com/v1 --dry-run");
    eval::add_file_commands(*command, action);
    eval::add_asking_commands(*command, action);
    add_metrics_command(*command, action);
}

}  // namespace matrix::cli
