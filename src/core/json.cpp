#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/json_text.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"

namespace matrix {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxQuoted = 60;

/// Tells the callback how far the parser has read, which nlohmann does not.
struct TrackingIterator {
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    const char* at;
    const char** furthest;

    reference operator*() const { return *at; }
    TrackingIterator& operator++() {
        *furthest = ++at;
        return *this;
    }
    TrackingIterator operator++(int) {
        const TrackingIterator old = *this;
        ++*this;
        return old;
    }
    bool operator==(const TrackingIterator& other) const { return at == other.at; }
    bool operator!=(const TrackingIterator& other) const { return at != other.at; }
};

std::string cut(std::string text, std::size_t bytes) {
    if (text.size() > bytes) {
        std::size_t end = bytes;
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
            --end;
        }
        text.resize(end);
        text += "...";
    }
    return text;
}

[[noreturn]] void fail(std::string_view where, std::string_view text, std::size_t offset,
                       const std::string& message) {
    offset = std::min(offset, text.size());
    std::size_t line = 1;
    std::size_t column = 1;
    for (const char c : text.substr(0, offset)) {
        column = c == '\n' ? 1 : column + 1;
        line += c == '\n' ? 1 : 0;
    }
    throw RunError(std::string(where) + ":" + std::to_string(line) + ":" + std::to_string(column) +
                   ": " + message);
}

// "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
std::string bare_message(const std::string& what) {
    std::size_t begin = what.find("] ");
    begin = begin == std::string::npos ? 0 : begin + 2;
    if (what.compare(begin, 11, "parse error") == 0) {
        const std::size_t colon = what.find(": ", begin);
        begin = colon == std::string::npos ? begin : colon + 2;
    }
    // It quotes what was read, which need not be UTF-8.
    const json text = what.substr(begin);
    return cut(json::parse(text.dump(-1, ' ', false, json::error_handler_t::replace)), 200);
}

}  // namespace

json parse_json(std::string_view text, std::string_view where) {
    // nlohmann takes a NUL for the end of the text and would ignore what follows it.
    if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
        fail(where, text, nul, "JSON has no NUL bytes");
    }
    const char* furthest = text.data();
    const auto offset = [&] { return static_cast<std::size_t>(furthest - text.data()); };
    std::vector<std::set<std::string>> keys;
    const json::parser_callback_t check = [&](int depth, json::parse_event_t event, json& value) {
        const bool opens =
            event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
        if (opens && static_cast<std::size_t>(depth) >= kMaxDepth) {
            fail(where, text, offset() - 1, "nested deeper than 64 levels");
        }
        if (event == json::parse_event_t::object_start) {
            keys.emplace_back();
        } else if (event == json::parse_event_t::object_end) {
            keys.pop_back();
        } else if (event == json::parse_event_t::key) {
            const auto& key = value.get_ref<const std::string&>();
            if (!keys.back().insert(key).second) {
                fail(where, text, offset() - 1, "the key " + quote_json(value) + " stands twice");
            }
        }
        return true;
    };
    try {
        return json::parse(TrackingIterator{text.data(), &furthest},
                           TrackingIterator{text.data() + text.size(), &furthest}, check);
    } catch (const json::parse_error& error) {
        fail(where, text, error.byte > 0 ? error.byte - 1 : 0,
             "malformed JSON: " + bare_message(error.what()));
    } catch (const json::exception& error) {
        fail(where, text, offset(), "malformed JSON: " + bare_message(error.what()));
    }
}

std::string quote_json(const json& value) {
    return cut(value.dump(-1, ' ', false, json::error_handler_t::replace), kMaxQuoted);
}

std::string quote_text(std::string_view text) {
    return quote_json(json(text));
}

std::string number_text(double number) {
    constexpr double kExact = 9007199254740992.0;  // 2^53
    if (std::abs(number) <= kExact && number == std::trunc(number)) {
        return std::to_string(static_cast<std::int64_t>(number));
    }
    return json(number).dump();
}

}  // namespace matrix
