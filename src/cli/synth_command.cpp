#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/synth/synth.h"
#include "matrix/core/signals.h"

namespace matrix::cli {

void add_synth_command(CLI::App& app, Action& action) {
    auto options = std::make_shared<synth::SynthOptions>();
    auto out = std::make_shared<std::string>();
    CLI::App* command = app.add_subcommand(
        "synth", "Make a procedural interaction data set: clips, mask tracks, captions");
    command->add_option("--out", *out, "Directory to create")->required();
    command->add_option("--clips", options->clips, "Number of clips")->required();
    command->add_option("--seed", options->seed, "Equal seeds make equal files")
        ->capture_default_str();
    command->footer("Example:\n  matrix synth --out data/train --clips 32");
    add_verbosity_flags(*command);
    command->callback([options, out, &action] {
        options->out = *out;
        action = [options] {
            install_stop_signals();
            synth::synthesize(*options);
        };
    });
}

}  // namespace matrix::cli
