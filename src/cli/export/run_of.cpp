#include "cli/export/run_of.h"

#include <nlohmann/json.hpp>

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/log/log.h"
#include "matrix/train/checkpoint.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

std::string config_of_run(const fs::path& run) {
    const fs::path path = run / "config.json";
    if (!fs::exists(path)) {
        return "";
    }
    const std::string text = read_text_file(path);
    return parse_json(text, path.string()).is_object() ? text : "";
}

/// Whether `directory` is a checkpoint as far as its files tell; its state then belongs to it.
bool is_checkpoint(const fs::path& adapter, const fs::path& directory) {
    std::error_code fault;
    const bool named = adapter == directory || adapter.filename() == "adapter.safetensors";
    return named && fs::exists(directory / "adapter.safetensors", fault) &&
           fs::exists(directory / "state.json", fault);
}

RunOfAdapter read_run(const fs::path& adapter, const fs::path& directory) {
    RunOfAdapter run;
    if (is_checkpoint(adapter, directory)) {
        const train::TrainState state = train::checkpoint_state(directory);
        run.steps = state.step;
        run.config = state.config;
        if (run.config.empty() && directory.parent_path().filename() == "checkpoints") {
            run.config = config_of_run(directory.parent_path().parent_path());
        }
    } else if (directory.filename() == "adapter" &&
               fs::exists(directory.parent_path() / "checkpoints")) {
        run.config = config_of_run(directory.parent_path());
    }
    return run;
}

}  // namespace

RunOfAdapter run_of(const fs::path& adapter) {
    std::error_code fault;
    const fs::path whole = fs::weakly_canonical(adapter, fault);
    const fs::path directory = fs::is_directory(whole, fault) ? whole : whole.parent_path();
    try {
        return read_run(whole, directory);
    } catch (const Error& error) {
        log::warning(error.faults().front() + "; the card will not tell of the run");
        return {};
    }
}

}  // namespace matrix::cli
