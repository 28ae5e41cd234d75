#pragma once

#include "cli/commands.h"

// The subcommands of `matrix eval`.

namespace matrix::cli {

void add_metrics_command(CLI::App& eval, Action& action);

}  // namespace matrix::cli
