#include "eval/json_reading.h"

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"

namespace matrix::eval {

Json parse_ordered(std::string_view text, std::string_view where) {
    (void)parse_json(text, where);  // its checks and its messages
    return Json::parse(text);
}

Json read_json(const std::filesystem::path& path) {
    return parse_ordered(read_text_file(path, std::size_t{1} << 30), path.string());
}

void write_json(const std::filesystem::path& path, const Json& json) {
    write_file_atomically(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

const Json& array_of(const Json& object, const char* key, const std::string& where) {
    if (!object.is_object() || !object.contains(key) || !object.at(key).is_array()) {
        throw RunError(where + ": `" + key + "` should be an array");
    }
    return object.at(key);
}

std::string text_of(const Json& object, const char* key, const std::string& where) {
    if (!object.is_object() || !object.contains(key) || !object.at(key).is_string()) {
        throw RunError(where + ": `" + key + "` should be a text");
    }
    return object.at(key).get<std::string>();
}

const Json& expect_array(const Json& json, const std::string& where) {
    if (!json.is_array()) {
        throw RunError(where + ": should be a JSON array");
    }
    return json;
}

}  // namespace matrix::eval
