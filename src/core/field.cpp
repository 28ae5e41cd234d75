#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/json_text.h"
#include "matrix/core/fields.h"

namespace matrix {
namespace {

using nlohmann::json;

template <typename T>
struct JsonType;

template <>
struct JsonType<bool> {
    static constexpr const char* kName = "true or false";
    static bool matches(const json& value) { return value.is_boolean(); }
};

template <>
struct JsonType<std::int64_t> {
    static constexpr const char* kName = "an integer";
    static bool matches(const json& value) {
        if (value.is_number_unsigned()) {
            return value.get<std::uint64_t>() <= std::uint64_t{INT64_MAX};
        }
        return value.is_number_integer();
    }
};

template <>
struct JsonType<double> {
    static constexpr const char* kName = "a number";
    static bool matches(const json& value) { return value.is_number(); }
};

template <>
struct JsonType<std::string> {
    static constexpr const char* kName = "a string";
    static bool matches(const json& value) { return value.is_string(); }
};

}  // namespace

Field::Field(std::string name, FieldTarget target, std::string doc)
    : name_(std::move(name)), target_(target), doc_(std::move(doc)) {}

Field& Field::range(double minimum, double maximum) {
    minimum_ = minimum;
    maximum_ = maximum;
    minimum_excluded_ = false;
    return *this;
}

Field& Field::above(double minimum, double maximum) {
    range(minimum, maximum);
    minimum_excluded_ = true;
    return *this;
}

Field& Field::one_of(std::vector<std::string> words) {
    words_ = std::move(words);
    return *this;
}

Field& Field::length(std::size_t count) {
    length_ = count;
    return *this;
}

Field& Field::null_word(std::string word) {
    null_word_ = std::move(word);
    return *this;
}

std::string Field::range_text() const {
    const bool below = std::isfinite(maximum_);
    if (!std::isfinite(minimum_)) {
        return below ? "at most " + number_text(maximum_) : "";
    }
    if (minimum_excluded_) {
        return "above " + number_text(minimum_) +
               (below ? ", at most " + number_text(maximum_) : "");
    }
    return below ? number_text(minimum_) + ".." + number_text(maximum_)
                 : "at least " + number_text(minimum_);
}

std::optional<std::string> Field::refuse(const json& value) const {
    if (value.is_number()) {
        const auto number = value.get<double>();
        if (number >= minimum_ && number <= maximum_ &&
            !(minimum_excluded_ && number == minimum_)) {
            return std::nullopt;
        }
        const bool closed =
            std::isfinite(minimum_) && std::isfinite(maximum_) && !minimum_excluded_;
        return quote_json(value) + (closed ? " is outside " : " is not ") + range_text();
    }
    if (value.is_string() && !words_.empty()) {
        const auto& word = value.get_ref<const std::string&>();
        if (std::find(words_.begin(), words_.end(), word) == words_.end()) {
            std::string text = quote_json(value) + " is not one of ";
            for (const std::string& known : words_) {
                text += (&known == &words_.front() ? "" : ", ") + quote_text(known);
            }
            const auto nearest = did_you_mean(word, words_);
            return nearest ? text + " (did you mean " + quote_text(*nearest) + "?)" : text;
        }
    }
    return std::nullopt;
}

template <typename T>
void Field::read_into(T& target, const json& value, std::vector<std::string>& faults,
                      const std::string& path) const {
    if (!JsonType<T>::matches(value)) {
        faults.push_back(path + ": expected " + JsonType<T>::kName + ", got " + quote_json(value));
    } else if (const auto fault = refuse(value)) {
        faults.push_back(path + ": " + *fault);
    } else {
        target = value.get<T>();
    }
}

template <typename T>
void Field::read_into(std::optional<T>& target, const json& value, std::vector<std::string>& faults,
                      const std::string& path) const {
    const json null = null_word_.empty() ? json() : json(null_word_);
    if (value == null) {
        target.reset();
    } else if (!JsonType<T>::matches(value)) {
        faults.push_back(path + ": expected " + JsonType<T>::kName + " or " + quote_json(null) +
                         ", got " + quote_json(value));
    } else {
        T result{};
        const std::size_t before = faults.size();
        read_into(result, value, faults, path);
        if (faults.size() == before) {
            target = std::move(result);
        }
    }
}

template <typename T>
void Field::read_into(std::vector<T>& target, const json& value, std::vector<std::string>& faults,
                      const std::string& path) const {
    if (!value.is_array()) {
        faults.push_back(path + ": expected a list, got " + quote_json(value));
        return;
    }
    const std::size_t before = faults.size();
    if (length_ && value.size() != *length_) {
        faults.push_back(path + ": expected " + std::to_string(*length_) + " elements, got " +
                         std::to_string(value.size()));
    }
    std::vector<T> result(value.size());
    for (std::size_t i = 0; i < value.size(); ++i) {
        read_into(result[i], value[i], faults, path + "[" + std::to_string(i) + "]");
    }
    if (faults.size() == before) {
        target = std::move(result);
    }
}

void Field::read(const json& value, std::vector<std::string>& faults,
                 const std::string& path) const {
    std::visit([&](auto* target) { read_into(*target, value, faults, path); }, target_);
}

json Field::write() const {
    return std::visit(
        [&](const auto* value) -> json {
            if constexpr (requires { value->has_value(); }) {
                if (!value->has_value()) {
                    return null_word_.empty() ? json() : json(null_word_);
                }
                return json(**value);
            } else {
                return json(*value);
            }
        },
        target_);
}

bool Field::holds_text() const {
    return std::holds_alternative<std::string*>(target_) ||
           std::holds_alternative<std::optional<std::string>*>(target_);
}

}  // namespace matrix
