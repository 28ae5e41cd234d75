#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/commands.h"
#include "matrix/core/error.h"
#include "matrix/lora/export.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

struct ExportFlags {
    std::string checkpoint;
    std::string format;
    std::string out;
    bool json = false;
};

/// Paths of the files of a directory, sorted.
std::vector<std::string> files_in(const fs::path& directory) {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(directory)) {
        files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
}

void export_main(const ExportFlags& flags) {
    if (flags.format != "diffusers") {
        throw UsageError("--format: \"" + flags.format +
                         "\" is not a format this program writes (diffusers)");
    }
    const double difference =
        lora::export_adapter(lora::read_adapter(flags.checkpoint), flags.out).largest_difference;
    const std::vector<std::string> files = files_in(flags.out);
    if (flags.json) {
        const nlohmann::json result = {{"format", flags.format},
                                       {"out", flags.out},
                                       {"files", files},
                                       {"largest_difference", difference}};
        std::cout << result.dump(2) << '\n';
        return;
    }
    for (const std::string& file : files) {
        std::cout << "wrote " << file << '\n';
    }
    std::cout << "read back; largest difference of a weight's change: " << difference << '\n';
}

}  // namespace

void add_export_command(CLI::App& app, Action& action) {
    auto flags = std::make_shared<ExportFlags>();
    CLI::App* command =
        app.add_subcommand("export", "Write what was trained in the format of an inference tool");
    command
        ->add_option("--checkpoint", flags->checkpoint,
                     "A checkpoint of a run, or an adapter directory or file")
        ->required();
    command->add_option("--format", flags->format, "diffusers")->required();
    command->add_option("--out", flags->out, "Directory to create; an earlier export is replaced")
        ->required();
    command->add_flag("--json", flags->json, "Print the result as JSON");
    command->footer(
        "Example:\n  matrix export --checkpoint runs/a/checkpoints/step-00004000 --format "
        "diffusers --out adapters/a");
    add_verbosity_flags(*command);
    command->callback([flags, &action] { action = [flags] { export_main(*flags); }; });
}

}  // namespace matrix::cli
