#include <CLI/CLI.hpp>

#include "cli/eval/commands.h"

namespace matrix::cli {

void add_eval_command(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand("eval", "Score generated videos");
    command->require_subcommand(1);
    command->footer("Example:\n  matrix eval metrics --root eval");
    add_metrics_command(*command, action);
}

}  // namespace matrix::cli
