#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "matrix/log/log.h"

namespace matrix::cli {

void add_verbosity_flags(CLI::App& command) {
    CLI::Option* quiet = command.add_flag_callback(
        "-q,--quiet", [] { log::configure(log::Level::kWarning); },
        "Print warnings and errors alone");
    command
        .add_flag_callback(
            "-v,--verbose", [] { log::configure(log::Level::kDebug); }, "Print more")
        ->excludes(quiet);
}

}  // namespace matrix::cli
