#include <cmath>
#include <nlohmann/json.hpp>

#include "core/field_section.h"
#include "core/json_text.h"
#include "matrix/core/fields.h"

namespace matrix {
namespace {

using nlohmann::json;

struct Shape {
    const char* type;  ///< JSON Schema's name of the value or of the list's elements
    bool optional;
    bool list;
};

template <typename T>
constexpr const char* schema_type() {
    if constexpr (std::is_same_v<T, bool>) {
        return "boolean";
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
        return "integer";
    } else if constexpr (std::is_same_v<T, double>) {
        return "number";
    } else {
        return "string";
    }
}

struct ShapeOf {
    template <typename T>
    Shape operator()(const T*) const {
        return {schema_type<T>(), false, false};
    }
    template <typename T>
    Shape operator()(const std::optional<T>*) const {
        return {schema_type<T>(), true, false};
    }
    template <typename T>
    Shape operator()(const std::vector<T>*) const {
        return {schema_type<T>(), false, true};
    }
};

// A cell of a Markdown table.
std::string cell(const std::string& text) {
    std::string result;
    for (const char c : text) {
        if (c == '|') {
            result += '\\';
        }
        result += c == '\n' ? ' ' : c;
    }
    return result;
}

}  // namespace

json Field::schema() const {
    const Shape shape = std::visit(ShapeOf{}, target_);
    json value = {{"type", shape.type}};
    if (std::isfinite(minimum_)) {
        value[minimum_excluded_ ? "exclusiveMinimum" : "minimum"] =
            json::parse(number_text(minimum_));
    }
    if (std::isfinite(maximum_)) {
        value["maximum"] = json::parse(number_text(maximum_));
    }
    if (!words_.empty()) {
        value["enum"] = words_;
    }
    if (shape.optional) {
        const json null = null_word_.empty() ? json{{"type", "null"}} : json{{"const", null_word_}};
        value = {{"anyOf", json::array({value, null})}};
    } else if (shape.list) {
        value = {{"type", "array"}, {"items", value}};
        if (length_) {
            value["minItems"] = *length_;
            value["maxItems"] = *length_;
        }
    }
    value["description"] = doc_;
    value["default"] = write();
    return value;
}

std::string Field::type_text() const {
    const Shape shape = std::visit(ShapeOf{}, target_);
    std::string text = shape.type;
    if (shape.list) {
        text = (length_ ? std::to_string(*length_) + " of " : "list of ") + text;
    }
    if (const std::string range = range_text(); !range.empty()) {
        text += ", " + range;
    }
    for (const std::string& word : words_) {
        text += (&word == &words_.front() ? ": " : ", ") + ("`" + quote_text(word) + "`");
    }
    if (shape.optional) {
        text += " or `" + (null_word_.empty() ? "null" : quote_text(null_word_)) + "`";
    }
    return text;
}

json FieldTable::schema() const {
    json properties = json::object();
    for (const Field& field : fields_) {
        properties[field.name_] = field.schema();
    }
    for (const auto& section : sections_) {
        json inner = section->table.schema();
        inner.erase("$schema");
        inner["description"] = section->doc;
        if (section->present != nullptr) {
            inner["type"] = json::array({"object", "null"});
            if (!*section->present) {
                inner["default"] = nullptr;
            }
        }
        properties[section->name] = std::move(inner);
    }
    return {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
            {"type", "object"},
            {"additionalProperties", false},
            {"properties", std::move(properties)}};
}

std::string FieldTable::reference() const {
    std::string text =
        "| Field | Type | Default | Meaning |\n"
        "| --- | --- | --- | --- |\n";
    write_reference(text, "");
    return text;
}

void FieldTable::write_reference(std::string& text, const std::string& path) const {
    for (const Field& field : fields_) {
        text += "| `" + path + field.name_ + "` | " + cell(field.type_text()) + " | `" +
                cell(field.write().dump()) + "` | " + cell(field.doc_) + " |\n";
    }
    for (const auto& section : sections_) {
        const bool optional = section->present != nullptr;
        text += "| `" + path + section->name + "` | section" + (optional ? " or `null`" : "") +
                " | " + (optional && !*section->present ? "`null`" : "") + " | " +
                cell(section->doc) + " |\n";
        section->table.write_reference(text, path + section->name + ".");
    }
}

}  // namespace matrix
