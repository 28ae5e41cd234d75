#include <CLI/CLI.hpp>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/init/model_maker.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/log/log.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

struct InitFlags {
    std::string preset;
    std::string out;
    std::uint64_t seed = 0;
    bool config_only = false;
};

void init_main(const InitFlags& flags) {
    const fs::path out = flags.out;
    if (fs::exists(out) && (!fs::is_directory(out) || !fs::is_empty(out))) {
        throw RunError(out.string() + ": already exists and is not an empty directory");
    }
    const ModelFiles files = model_files(flags.preset);
    nlohmann::json run = run_file(flags.preset);
    run["model"]["path"] = out.string();
    write_directory_atomically(out, [&](const fs::path& temporary) {
        write_configs(files, temporary);
        write_file_atomically(temporary / "run.json", run.dump(2) + "\n");
        if (!flags.config_only) {
            write_random_weights(temporary, flags.seed,
                                 flags.preset == "tiny" ? at::kFloat : at::kBFloat16);
        }
    });
    log::info("model written to " + out.string() +
              (flags.config_only ? " (configuration only)" : "") +
              "; a run that fits it: " + (out / "run.json").string());
}

}  // namespace

void add_init_command(CLI::App& app, Action& action) {
    auto flags = std::make_shared<InitFlags>();
    CLI::App* command = app.add_subcommand(
        "init", "Make a model directory with random weights and a run that fits it");
    command->add_option("--preset", flags->preset, "tiny, or 5b-i2v")->required();
    command->add_option("--out", flags->out, "Directory to create")->required();
    command->add_option("--seed", flags->seed, "Equal seeds make equal weights")
        ->capture_default_str();
    command->add_flag("--config-only", flags->config_only,
                      "Write the configuration files, no weights");
    command->footer("Example:\n  matrix init --preset tiny --out models/tiny");
    add_verbosity_flags(*command);
    command->callback([flags, &action] { action = [flags] { init_main(*flags); }; });
}

}  // namespace matrix::cli
