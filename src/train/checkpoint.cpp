#include "matrix/train/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"

namespace matrix::train {
namespace {

namespace fs = std::filesystem;

constexpr int kFormatVersion = 1;
constexpr std::string_view kPrefix = "step-";

/// The step of a checkpoint directory's name, or nothing for other names.
std::optional<std::int64_t> step_of(const fs::path& directory) {
    const std::string name = directory.filename().string();
    std::int64_t step = 0;
    const char* begin = name.data() + std::min(name.size(), kPrefix.size());
    const char* end = name.data() + name.size();
    if (name.rfind(kPrefix, 0) != 0 || begin == end) {
        return std::nullopt;
    }
    const auto [stop, fault] = std::from_chars(begin, end, step);
    return fault == std::errc() && stop == end ? std::optional(step) : std::nullopt;
}

/// Whether a name is that of a checkpoint still being written (core/files.h), by a process that may
/// be gone.
bool is_temporary(const fs::path& directory) {
    const std::string name = directory.filename().string();
    const std::size_t end = name.find(".tmp.");
    return end != std::string::npos &&
           step_of(directory.parent_path() / name.substr(0, end)).has_value();
}

/// Complete checkpoints, oldest first.
std::vector<std::pair<std::int64_t, fs::path>> all_checkpoints(const fs::path& run) {
    std::vector<std::pair<std::int64_t, fs::path>> found;
    std::error_code fault;
    for (const auto& entry : fs::directory_iterator(run / "checkpoints", fault)) {
        const auto step = step_of(entry.path());
        if (step && fs::exists(entry.path() / "state.json")) {
            found.emplace_back(*step, entry.path());
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

void remove_checkpoint(const fs::path& directory) {
    // Without its state a half-deleted directory is no checkpoint.
    std::error_code ignored;
    fs::remove(directory / "state.json", ignored);
    fs::remove_all(directory, ignored);
}

TrainState read_state(const fs::path& path) {
    const nlohmann::json json = parse_json(read_text_file(path), path.string());
    const auto integer = [&](const char* key) {
        if (!json.is_object() || !json.contains(key) || !json[key].is_number_integer() ||
            json[key] < 0) {
            throw RunError(path.string() + ": " + key + " is missing or not a count");
        }
        return json[key].get<std::int64_t>();
    };
    if (const std::int64_t version = integer("format_version"); version != kFormatVersion) {
        throw RunError(path.string() + ": format version " + std::to_string(version) + " is not " +
                       std::to_string(kFormatVersion) + ", the one this program reads");
    }
    return {integer("step"), integer("next_sample")};
}

}  // namespace

fs::path checkpoint_directory(const fs::path& run, std::int64_t step) {
    char name[32];
    std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
    return run / "checkpoints" / name;
}

void save_checkpoint(const fs::path& directory, const std::map<std::string, at::Tensor>& trained,
                     const lora::AdapterInfo& info, const tensor_io::TensorMap& optimizer,
                     const TrainState& state) {
    write_directory_atomically(directory, [&](const fs::path& temporary) {
        lora::write_checkpoint_adapter(temporary / "adapter.safetensors", trained, info);
        tensor_io::write_safetensors(temporary / "optimizer.safetensors", optimizer);
        const nlohmann::json json = {{"format_version", kFormatVersion},
                                     {"step", state.step},
                                     {"next_sample", state.next_sample}};
        write_file_atomically(temporary / "state.json", json.dump(2) + "\n");
    });
}

LoadedCheckpoint load_checkpoint(const fs::path& directory,
                                 const std::map<std::string, at::Tensor>& trained) {
    const fs::path adapter_path = directory / "adapter.safetensors";
    const tensor_io::SafetensorsFile adapter(adapter_path);
    std::vector<std::string> faults;
    for (const auto& [name, tensor] : trained) {
        if (!adapter.contains(name)) {
            faults.push_back(adapter_path.string() + ": " + name +
                             " is missing, and this run trains it");
        } else if (adapter.shape(name) != tensor.sizes()) {
            faults.push_back(adapter_path.string() + ": " + name + " has shape " +
                             shape_text(adapter.shape(name)) + ", this run's has " +
                             shape_text(tensor.sizes()));
        }
    }
    for (const std::string& key : adapter.keys()) {
        if (trained.count(key) == 0) {
            faults.push_back(adapter_path.string() + ": " + key +
                             " is not trained by this run's configuration");
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
    LoadedCheckpoint loaded{read_state(directory / "state.json"),
                            tensor_io::SafetensorsFile(directory / "optimizer.safetensors").all()};
    const at::NoGradGuard no_grad;
    for (const auto& [name, tensor] : trained) {
        tensor.detach().copy_(adapter.tensor(name));
    }
    return loaded;
}

std::optional<fs::path> last_checkpoint(const fs::path& run) {
    const auto found = all_checkpoints(run);
    return found.empty() ? std::nullopt : std::optional(found.back().second);
}

void prune_checkpoints(const fs::path& run, std::int64_t keep) {
    const auto found = all_checkpoints(run);
    for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < found.size(); ++i) {
        remove_checkpoint(found[i].second);
    }
}

std::int64_t discard_checkpoints_after(const fs::path& run, std::int64_t step) {
    std::int64_t discarded = 0;
    std::vector<fs::path> unfinished;
    std::error_code fault;
    for (const auto& entry : fs::directory_iterator(run / "checkpoints", fault)) {
        const bool stateless = step_of(entry.path()) && !fs::exists(entry.path() / "state.json");
        if (is_temporary(entry.path()) || stateless) {
            unfinished.push_back(entry.path());
        }
    }
    for (const auto& [at, directory] : all_checkpoints(run)) {
        if (at > step) {
            remove_checkpoint(directory);
            ++discarded;
        }
    }
    for (const fs::path& directory : unfinished) {
        fs::remove_all(directory, fault);
    }
    return discarded;
}

}  // namespace matrix::train
