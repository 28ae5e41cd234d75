#pragma once

#include <functional>

namespace CLI {
class App;
}

// One function per subcommand: it declares flags on a new subcommand of `app` and, when that
// subcommand is chosen, sets `action` to the work. Parsing thus ends before anything runs.

namespace matrix::cli {

using Action = std::function<void()>;

void add_train_command(CLI::App& app, Action& action);
void add_generate_command(CLI::App& app, Action& action);
void add_analyze_command(CLI::App& app, Action& action);
void add_init_command(CLI::App& app, Action& action);
void add_export_command(CLI::App& app, Action& action);
void add_check_command(CLI::App& app, Action& action);
void add_bench_command(CLI::App& app, Action& action);
void add_probe_command(CLI::App& app, Action& action);
void add_prepare_command(CLI::App& app, Action& action);
void add_synth_command(CLI::App& app, Action& action);
void add_import_command(CLI::App& app, Action& action);
void add_eval_command(CLI::App& app, Action& action);

/// -q and -v, applied before the action runs.
void add_verbosity_flags(CLI::App& command);

}  // namespace matrix::cli
