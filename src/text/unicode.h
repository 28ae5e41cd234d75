#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace matrix::text {

struct CodePoint {
    char32_t value;
    std::size_t bytes;
};

/// The first code point of a text that is not empty. A byte that starts no valid sequence is U+FFFD
/// of length 1: sentencepiece's rule, so that offsets agree with its own.
[[nodiscard]] CodePoint front_code_point(std::string_view text);

[[nodiscard]] std::u32string decode_utf8(std::string_view text);

/// See phrases.h for what counts.
[[nodiscard]] bool is_space(char32_t c);
[[nodiscard]] bool is_letter_or_digit(char32_t c);

/// Without the white space at the left (right) end.
[[nodiscard]] std::string_view strip_left(std::string_view text);
[[nodiscard]] std::string_view strip_right(std::string_view text);

}  // namespace matrix::text
