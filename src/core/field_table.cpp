#include <c10/util/Exception.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "core/field_section.h"
#include "core/json_text.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"

namespace matrix {
namespace {

using nlohmann::json;

std::string join(const std::string& path, const std::string& name) {
    return path.empty() ? name : path + "." + name;
}

// What looks like a list, an object or a quoted string must be well-formed; the rest may be bare.
json parse_value(std::string_view text, std::string_view where) {
    if (!text.empty() && (text[0] == '{' || text[0] == '[' || text[0] == '"')) {
        return parse_json(text, where);
    }
    json value = json::parse(text, nullptr, false);
    return value.is_discarded() ? json(std::string(text)) : value;
}

}  // namespace

FieldTable::FieldTable() = default;
FieldTable::FieldTable(FieldTable&&) noexcept = default;
FieldTable& FieldTable::operator=(FieldTable&&) noexcept = default;
FieldTable::~FieldTable() = default;

std::vector<std::string> FieldTable::names() const {
    std::vector<std::string> result;
    for (const Field& field : fields_) {
        result.push_back(field.name_);
    }
    for (const auto& section : sections_) {
        result.push_back(section->name);
    }
    return result;
}

const Field* FieldTable::field(std::string_view name) const {
    for (const Field& field : fields_) {
        if (field.name_ == name) {
            return &field;
        }
    }
    return nullptr;
}

const FieldTable::Section* FieldTable::section(std::string_view name) const {
    for (const auto& section : sections_) {
        if (section->name == name) {
            return section.get();
        }
    }
    return nullptr;
}

Field& FieldTable::add(std::string name, FieldTarget target, std::string doc) {
    TORCH_CHECK(!field(name) && !section(name), "two config fields are called ", name);
    return fields_.emplace_back(std::move(name), target, std::move(doc));
}

void FieldTable::add_section(std::string name, FieldTable table, std::string doc) {
    TORCH_CHECK(!field(name) && !section(name), "two config fields are called ", name);
    sections_.push_back(std::make_unique<Section>(
        Section{std::move(name), std::move(table), std::move(doc), nullptr}));
}

void FieldTable::add_optional_section(std::string name, FieldTable table, bool& present,
                                      std::string doc) {
    add_section(std::move(name), std::move(table), std::move(doc));
    sections_.back()->present = &present;
}

void FieldTable::read(const json& value, std::vector<std::string>& faults,
                      const std::string& path) const {
    if (!value.is_object()) {
        faults.push_back((path.empty() ? "the config" : path) + ": expected an object, got " +
                         quote_json(value));
        return;
    }
    for (const auto& [key, item] : value.items()) {
        const std::string inner = join(path, key);
        if (const Field* known = field(key)) {
            known->read(item, faults, inner);
        } else if (const Section* part = section(key)) {
            if (part->present != nullptr && (item.is_null() || item.is_object())) {
                *part->present = item.is_object();
                if (item.is_null()) {
                    continue;
                }
            }
            part->table.read(item, faults, inner);
        } else {
            const auto nearest = did_you_mean(key, names());
            faults.push_back(inner + ": unknown field" +
                             (nearest ? " (did you mean \"" + *nearest + "\"?)" : ""));
        }
    }
}

void FieldTable::set(std::string_view assignment, std::vector<std::string>& faults) const {
    const std::size_t equals = assignment.find('=');
    if (equals == std::string_view::npos || equals == 0) {
        faults.push_back(quote_text(assignment) + ": expected path=value, such as lora.rank=16");
        return;
    }
    std::vector<std::string> keys;
    std::string_view path = assignment.substr(0, equals);
    for (std::size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
        keys.emplace_back(path.substr(0, dot));
        path.remove_prefix(dot + 1);
    }
    keys.emplace_back(path);

    const FieldTable* table = this;
    for (std::size_t i = 0; table != nullptr && i + 1 < keys.size(); ++i) {
        const Section* part = table->section(keys[i]);
        table = part != nullptr ? &part->table : nullptr;
    }
    const Field* target = table != nullptr ? table->field(keys.back()) : nullptr;
    try {
        json value = parse_value(assignment.substr(equals + 1), assignment.substr(0, equals));
        // A name of digits is a name, where a string is wanted.
        if (target != nullptr && target->holds_text() &&
            (value.is_number() || value.is_boolean())) {
            value = std::string(assignment.substr(equals + 1));
        }
        for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
            json outer = json::object();
            outer[*key] = std::move(value);
            value = std::move(outer);
        }
        read(value, faults);
    } catch (const RunError& malformed) {
        faults.insert(faults.end(), malformed.faults().begin(), malformed.faults().end());
    }
}

json FieldTable::write() const {
    json result = json::object();
    for (const Field& field : fields_) {
        result[field.name_] = field.write();
    }
    for (const auto& section : sections_) {
        const bool absent = section->present != nullptr && !*section->present;
        result[section->name] = absent ? json() : section->table.write();
    }
    return result;
}

}  // namespace matrix
