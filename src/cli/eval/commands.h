#pragma once

#include "cli/commands.h"

// The subcommands of `matrix eval`.

namespace matrix::cli {

void add_metrics_command(CLI::App& eval, Action& action);

namespace eval {

/// verify, questions, emergence, answers, run: those that ask a vision-language model.
void add_asking_commands(CLI::App& eval, Action& action);
/// overlay, scores, report: those that look at files alone.
void add_file_commands(CLI::App& eval, Action& action);

}  // namespace eval
}  // namespace matrix::cli
