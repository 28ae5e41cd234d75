#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace matrix::cli::bench {

/// A result for a person: one line each, nested names joined by dots.
[[nodiscard]] std::string table(const nlohmann::json& result);

}  // namespace matrix::cli::bench
