#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace matrix::cli {

/// What is known of the run that an adapter comes from.
struct RunOfAdapter {
    std::string config;                 ///< its resolved configuration as JSON, or empty
    std::optional<std::int64_t> steps;  ///< optimizer steps done
};

/// Of a checkpoint from its state and its run directory's `config.json`, of a run's `adapter/` from
/// the latter; nothing of any other adapter. Of a state or configuration that is damaged it warns
/// and knows nothing.
[[nodiscard]] RunOfAdapter run_of(const std::filesystem::path& adapter);

}  // namespace matrix::cli
