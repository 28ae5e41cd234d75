#include "cli/import/json_help.h"

#include "matrix/core/fields.h"
#include "matrix/core/files.h"

namespace matrix::imports {

using nlohmann::json;

json read_json_file(const std::filesystem::path& file) {
    constexpr std::size_t kMaxBytes = std::size_t{4} << 30;
    return parse_json(read_text_file(file, kMaxBytes), file.string());
}

std::optional<std::int64_t> integer_at(const json& object, const char* key) {
    const auto it = object.is_object() ? object.find(key) : object.end();
    return it != object.end() && it->is_number_integer() ? std::optional(it->get<std::int64_t>())
                                                         : std::nullopt;
}

std::optional<std::string> text_at(const json& object, const char* key) {
    const auto it = object.is_object() ? object.find(key) : object.end();
    return it != object.end() && it->is_string() ? std::optional(it->get<std::string>())
                                                 : std::nullopt;
}

}  // namespace matrix::imports
