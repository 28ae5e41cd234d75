#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace matrix::imports {

/// A whole JSON file of any size; RunError naming it.
[[nodiscard]] nlohmann::json read_json_file(const std::filesystem::path& file);

/// `object[key]` as a whole number, or as text; none if it is not there or something else.
[[nodiscard]] std::optional<std::int64_t> integer_at(const nlohmann::json& object, const char* key);
[[nodiscard]] std::optional<std::string> text_at(const nlohmann::json& object, const char* key);

}  // namespace matrix::imports
