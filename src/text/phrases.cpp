#include "matrix/text/phrases.h"

#include "matrix/core/error.h"
#include "text/unicode.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <vector>

namespace matrix::text {

namespace {

constexpr std::size_t kShownBytes = 2000;

// In quotes, on one line, and not longer than a reader can use.
std::string quoted(std::string_view text) {
    std::string shown = "\"";
    for (std::size_t at = 0; at < text.size();) {
        if (at > kShownBytes) {
            return shown + "\"...";
        }
        const CodePoint c = front_code_point(text.substr(at));
        if (c.value < 0x20) {
            shown += c.value == '\n' ? "\\n" : c.value == '\t' ? "\\t" : "\\?";
        } else {
            shown += text.substr(at, c.bytes);
        }
        at += c.bytes;
    }
    return shown + "\"";
}

// Length of the marker at the front of `text`, 0 if there is none.
std::size_t id_marker_size(std::string_view text) {
    constexpr std::string_view kOpen = "<id";
    if (!text.starts_with(kOpen)) {
        return 0;
    }
    const std::size_t close = text.find_first_not_of("0123456789", kOpen.size());
    const bool closed = close != std::string_view::npos && text[close] == '>';
    return closed && close > kOpen.size() ? close + 1 : 0;
}

std::string without_id_markers(std::string_view text) {
    std::string kept;
    kept.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        if (const std::size_t size = id_marker_size(text.substr(at)); size > 0) {
            at += size;
        } else {
            kept += text[at++];
        }
    }
    return kept;
}

std::vector<std::int64_t> occurrences(const std::u32string& text, const std::u32string& phrase) {
    std::vector<std::int64_t> found;
    for (std::size_t at = text.find(phrase); at != std::u32string::npos;
         at = text.find(phrase, at + 1)) {
        const std::size_t end = at + phrase.size();
        const bool inside_word = (at > 0 && is_letter_or_digit(text[at - 1])) ||
                                 (end < text.size() && is_letter_or_digit(text[end]));
        if (!inside_word) {
            found.push_back(static_cast<std::int64_t>(at));
        }
    }
    return found;
}

std::string listed(const std::vector<std::int64_t>& offsets) {
    constexpr std::size_t kShown = 8;
    std::string list;
    for (std::size_t i = 0; i < std::min(kShown, offsets.size()); ++i) {
        list += (i == 0 ? "" : ", ") + std::to_string(offsets[i]);
    }
    return offsets.size() > kShown ? list + ", ..." : list;
}

}  // namespace

std::string strip_id_markers(std::string_view text) {
    const std::string kept = without_id_markers(text);
    std::string stripped;
    stripped.reserve(kept.size());
    bool space_due = false;
    for (std::string_view rest = kept; !rest.empty();) {
        const CodePoint c = front_code_point(rest);
        if (is_space(c.value)) {
            space_due = !stripped.empty();
        } else {
            if (space_due) {
                stripped += ' ';
                space_due = false;
            }
            stripped += rest.substr(0, c.bytes);
        }
        rest.remove_prefix(c.bytes);
    }
    return stripped;
}

Span find_phrase(std::string_view text, std::string_view phrase,
                 std::optional<std::int64_t> start) {
    const std::u32string characters = decode_utf8(phrase);
    if (std::all_of(characters.begin(), characters.end(), is_space)) {
        throw RunError("empty phrase for the text " + quoted(text));
    }
    const std::vector<std::int64_t> found = occurrences(decode_utf8(text), characters);
    const auto length = static_cast<std::int64_t>(characters.size());
    if (found.empty()) {
        throw RunError("phrase " + quoted(phrase) + " does not occur as whole words in the text " +
                       quoted(text));
    }
    if (start) {
        if (std::find(found.begin(), found.end(), *start) == found.end()) {
            throw RunError("phrase " + quoted(phrase) + " does not start at " +
                           std::to_string(*start) + " but at " + listed(found) + " in the text " +
                           quoted(text));
        }
        return {*start, *start + length};
    }
    if (found.size() > 1) {
        throw RunError("phrase " + quoted(phrase) + " occurs " + std::to_string(found.size()) +
                       " times in the text " + quoted(text) +
                       "; choose one with \"start\": " + listed(found));
    }
    return {found.front(), found.front() + length};
}

TokenMask token_mask(const Encoding& encoding, std::string_view text, Span phrase) {
    const std::u32string characters = decode_utf8(text);
    TORCH_CHECK(phrase.begin >= 0 && phrase.begin <= phrase.end &&
                    phrase.end <= static_cast<std::int64_t>(characters.size()),
                "phrase [", phrase.begin, ", ", phrase.end, ") is not in a text of ",
                characters.size(), " characters");
    TORCH_CHECK(encoding.ids.size() == static_cast<std::size_t>(kMaxTokens) &&
                    encoding.spans.size() == encoding.ids.size(),
                "token_mask takes a padded encoding, not ", encoding.ids.size(), " tokens");
    const auto covers = [&](Span token) {
        for (auto i = std::max(token.begin, phrase.begin); i < std::min(token.end, phrase.end);
             ++i) {
            if (!is_space(characters[static_cast<std::size_t>(i)])) {
                return true;
            }
        }
        return false;
    };
    TokenMask result{at::zeros({kMaxTokens}, at::kByte)};
    const auto length = static_cast<std::int64_t>(characters.size());
    if (encoding.cut_at && covers({*encoding.cut_at, length})) {
        result.cut_off = true;
        return result;
    }
    auto* mask = result.mask.mutable_data_ptr<std::uint8_t>();
    std::transform(encoding.spans.begin(), encoding.spans.end(), mask, covers);
    return result;
}

}  // namespace matrix::text
