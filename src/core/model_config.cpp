#include "matrix/core/model_config.h"

#include <cmath>
#include <sstream>

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"

namespace matrix {
namespace {

constexpr std::size_t kMaxConfigBytes = 4u << 20;

template <class T>
std::string outside(T value, T minimum, T maximum) {
    std::ostringstream text;
    text << value << " is outside " << minimum << ".." << maximum;
    return text.str();
}

}  // namespace

ModelConfig::ModelConfig(const std::filesystem::path& config_json)
    : path_(config_json),
      json_(parse_json(read_text_file(config_json, kMaxConfigBytes), config_json.string())) {
    if (!json_.is_object()) {
        throw RunError(path_.string() + ": expected a JSON object");
    }
}

const nlohmann::json* ModelConfig::find(std::string_view name) const {
    const auto found = json_.find(std::string(name));
    return found == json_.end() ? nullptr : &*found;
}

void ModelConfig::fail(std::string_view name, const std::string& reason) const {
    throw RunError(path_.string() + ": " + std::string(name) + ": " + reason);
}

void ModelConfig::expect_class(const std::vector<std::string>& names) const {
    const nlohmann::json* value = find("_class_name");
    if (value == nullptr) {
        return;
    }
    std::string wanted;
    for (const std::string& name : names) {
        if (value->is_string() && *value == name) {
            return;
        }
        wanted += (wanted.empty() ? "" : " or ") + name;
    }
    fail("_class_name", "expected " + wanted + ", got " + value->dump());
}

void ModelConfig::require(std::string_view name) const {
    if (find(name) == nullptr) {
        fail(name, "missing");
    }
}

std::int64_t ModelConfig::integer(std::string_view name, std::int64_t fallback,
                                  std::int64_t minimum, std::int64_t maximum) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr) {
        return fallback;
    }
    if (!value->is_number_integer()) {
        fail(name, "expected an integer, got " + std::string(value->type_name()));
    }
    if (value->is_number_unsigned() &&
        value->get<std::uint64_t>() > static_cast<std::uint64_t>(maximum)) {
        fail(name, outside(value->get<std::uint64_t>(), static_cast<std::uint64_t>(minimum),
                           static_cast<std::uint64_t>(maximum)));
    }
    const auto number = value->get<std::int64_t>();
    if (number < minimum || number > maximum) {
        fail(name, outside(number, minimum, maximum));
    }
    return number;
}

std::optional<std::int64_t> ModelConfig::optional_integer(std::string_view name,
                                                          std::int64_t minimum,
                                                          std::int64_t maximum) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr || value->is_null()) {
        return std::nullopt;
    }
    return integer(name, minimum, minimum, maximum);
}

double ModelConfig::number(std::string_view name, double fallback, double minimum,
                           double maximum) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr) {
        return fallback;
    }
    if (!value->is_number()) {
        fail(name, "expected a number, got " + std::string(value->type_name()));
    }
    const auto number = value->get<double>();
    if (!std::isfinite(number) || number < minimum || number > maximum) {
        fail(name, outside(number, minimum, maximum));
    }
    return number;
}

bool ModelConfig::flag(std::string_view name, bool fallback) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr) {
        return fallback;
    }
    if (!value->is_boolean()) {
        fail(name, "expected true or false, got " + std::string(value->type_name()));
    }
    return value->get<bool>();
}

std::string ModelConfig::text(std::string_view name, std::string_view fallback) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr) {
        return std::string(fallback);
    }
    if (!value->is_string()) {
        fail(name, "expected a string, got " + std::string(value->type_name()));
    }
    return value->get<std::string>();
}

std::vector<std::int64_t> ModelConfig::integers(std::string_view name,
                                                std::vector<std::int64_t> fallback,
                                                std::int64_t minimum, std::int64_t maximum,
                                                std::size_t max_count) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr) {
        return fallback;
    }
    if (!value->is_array() || value->empty() || value->size() > max_count) {
        fail(name, "expected a list of 1 to " + std::to_string(max_count) + " integers");
    }
    std::vector<std::int64_t> numbers;
    for (const nlohmann::json& item : *value) {
        if (!item.is_number_integer() ||
            (item.is_number_unsigned() && item.get<std::uint64_t>() > INT64_MAX)) {
            fail(name, "expected integers, got " + item.dump());
        }
        numbers.push_back(item.get<std::int64_t>());
        if (numbers.back() < minimum || numbers.back() > maximum) {
            fail(name, outside(numbers.back(), minimum, maximum));
        }
    }
    return numbers;
}

void ModelConfig::only(std::string_view name, const nlohmann::json& wanted) const {
    const nlohmann::json* value = find(name);
    if (value != nullptr && *value != wanted) {
        fail(name, "expected " + wanted.dump() + ", got " + value->dump());
    }
}

}  // namespace matrix
