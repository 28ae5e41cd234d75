#include "text/special_tokens.h"

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "text/unicode.h"

#include <nlohmann/json.hpp>

#include <charconv>
#include <optional>
#include <string>
#include <system_error>

namespace matrix::text {

namespace {

constexpr std::string_view kExtraPrefix = "<extra_id_";

struct Special {
    std::int64_t id;
    std::size_t bytes;
};

// <extra_id_7> is one, <extra_id_07> and <extra_id_100> are text.
std::optional<Special> extra_id_at(std::string_view text) {
    if (!text.starts_with(kExtraPrefix)) {
        return std::nullopt;
    }
    const char* digits = text.data() + kExtraPrefix.size();
    const char* end = text.data() + text.size();
    unsigned number = 0;
    const auto [stop, error] = std::from_chars(digits, end, number);
    const bool canonical = stop - digits == (number < 10 ? 1 : 2);
    if (error != std::errc() || number >= kNumExtraIds || !canonical || stop == end ||
        *stop != '>') {
        return std::nullopt;
    }
    return Special{kNumPieces + kNumExtraIds - 1 - static_cast<std::int64_t>(number),
                   static_cast<std::size_t>(stop - text.data()) + 1};
}

// All special tokens start with '<' and hold no other one, so no two can overlap.
std::optional<Special> special_at(std::string_view text) {
    if (text.starts_with("<pad>")) {
        return Special{kPadId, 5};
    }
    if (text.starts_with("</s>")) {
        return Special{kEosId, 4};
    }
    if (text.starts_with("<unk>")) {
        return Special{kUnknownId, 5};
    }
    return extra_id_at(text);
}

bool strips(const Segment& segment) {
    return segment.special_id >= kNumPieces;
}

std::optional<nlohmann::json> read_json(const std::filesystem::path& path) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) {
        return std::nullopt;
    }
    nlohmann::json json = parse_json(read_text_file(path, 8u << 20), path.string());
    if (!json.is_object()) {
        throw RunError(path.string() + ": expected a JSON object");
    }
    return json;
}

void check_config(const std::filesystem::path& path) {
    const std::optional<nlohmann::json> config = read_json(path);
    if (!config) {
        return;
    }
    const auto demand = [&](const char* key, const nlohmann::json& wanted) {
        const auto found = config->find(key);
        if (found != config->end() && !found->is_null() && *found != wanted) {
            throw RunError(path.string() + ": " + key + " is not " + wanted.dump() +
                           "; only CogVideoX's T5 tokenizer is supported");
        }
    };
    demand("legacy", true);
    demand("extra_ids", kNumExtraIds);
}

void check_added_tokens(const std::filesystem::path& path) {
    const std::optional<nlohmann::json> tokens = read_json(path);
    if (!tokens) {
        return;
    }
    for (const auto& [name, id] : tokens->items()) {
        const std::optional<Special> special = special_at(name);
        if (!special || special->bytes != name.size() || id != special->id) {
            throw RunError(path.string() + ": \"" + name +
                           "\" is not a token of T5 with this id; " +
                           "only CogVideoX's T5 tokenizer is supported");
        }
    }
}

}  // namespace

std::vector<Segment> split_special_tokens(std::string_view prompt) {
    std::vector<Segment> segments;
    std::size_t text_begin = 0;
    const auto add_text = [&](std::size_t end) {
        std::string_view text = prompt.substr(text_begin, end - text_begin);
        if (!segments.empty() && strips(segments.back())) {
            text = strip_left(text);
        }
        if (!text.empty()) {
            segments.push_back({text, -1});
        }
    };
    for (std::size_t at = prompt.find('<'); at != std::string_view::npos;) {
        const std::optional<Special> special = special_at(prompt.substr(at));
        if (!special) {
            at = prompt.find('<', at + 1);
            continue;
        }
        add_text(at);
        const Segment token{prompt.substr(at, special->bytes), special->id};
        if (strips(token) && !segments.empty() && segments.back().special_id < 0) {
            segments.back().text = strip_right(segments.back().text);
            if (segments.back().text.empty()) {
                segments.pop_back();
            }
        }
        segments.push_back(token);
        text_begin = at + special->bytes;
        at = prompt.find('<', text_begin);
    }
    add_text(prompt.size());
    return segments;
}

void check_tokenizer_files(const std::filesystem::path& directory) {
    check_config(directory / "tokenizer_config.json");
    check_added_tokens(directory / "added_tokens.json");
}

}  // namespace matrix::text
