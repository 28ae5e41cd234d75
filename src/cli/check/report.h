#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace matrix::cli::check {

/// What the doctor found: lines for a person, facts for a program, and every fault.
struct Report {
    std::vector<std::string> lines;
    nlohmann::json facts = nlohmann::json::object();
    std::vector<std::string> notes;   ///< allowed and worth knowing
    std::vector<std::string> faults;  ///< one line each: what, where and the remedy

    /// Runs `step` and keeps the faults it throws; false if there were any.
    bool collect(const std::function<void()>& step);
    /// Prints lines and notes, or with `json` one object of facts, notes and faults.
    void print(bool json) const;
};

/// Each component of a Hugging Face directory: its configuration, and key, shape and kind of every
/// tensor, from the files' headers alone; then what one component asks of another.
[[nodiscard]] Report check_model(const std::filesystem::path& model);

/// A data set. With a run file: what that run would read, decoded. Without one (empty path): all
/// frames of every clip and a mask for each. `overlays`: where to draw a sheet of each sound clip,
/// so that a person can look at it; empty: nowhere.
[[nodiscard]] Report check_data(const std::filesystem::path& data,
                                const std::filesystem::path& run_file,
                                const std::filesystem::path& overlays);

/// A run file, and its blocks against the model's where the model is there.
[[nodiscard]] Report check_config(const std::filesystem::path& run_file);

/// A prepared cache, every byte of it.
[[nodiscard]] Report check_cache(const std::filesystem::path& cache);

}  // namespace matrix::cli::check
