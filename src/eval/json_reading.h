#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <string_view>

namespace matrix::eval {

using Json = nlohmann::ordered_json;

/// The text as JSON in its own order of keys; RunError naming `where` as matrix::parse_json.
[[nodiscard]] Json parse_ordered(std::string_view text, std::string_view where);
[[nodiscard]] Json read_json(const std::filesystem::path& path);
/// Indented, with a newline at the end; written atomically.
void write_json(const std::filesystem::path& path, const Json& json);

// Members of an object by type: RunError "where: ...", naming the field.
[[nodiscard]] const Json& array_of(const Json& object, const char* key, const std::string& where);
[[nodiscard]] std::string text_of(const Json& object, const char* key, const std::string& where);
/// RunError unless `json` is an array; for a whole file.
[[nodiscard]] const Json& expect_array(const Json& json, const std::string& where);

}  // namespace matrix::eval
