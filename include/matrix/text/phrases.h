#pragma once

#include "matrix/text/t5_tokenizer.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace matrix::text {

// White space is what Python's str.isspace() and \s accept: the ASCII spaces and separators 09-0D
// and 1C-1F, U+0085, and the Unicode space, line and paragraph separators (NBSP, U+1680,
// U+2000-200A, U+2028/29, U+202F, U+205F, U+3000). Zero-width characters are none. A letter or
// digit is what iswalnum() accepts in the C.UTF-8 locale, Unicode's Alphabetic property and decimal
// digits: CJK, kana, Hangul, the vowel signs and the digits of every script count; emoji,
// punctuation, combining accents, superscripts and fractions do not.

/// Deletes every `<idN>` (N one or more ASCII digits), turns runs of white space into one space and
/// trims both ends.
[[nodiscard]] std::string strip_id_markers(std::string_view text);

/// Where `phrase` stands in `text`: case-sensitive, neither preceded nor followed by a letter or
/// digit. `start` (in code points) chooses among several occurrences. RunError that shows the text
/// if the phrase is empty, does not occur, occurs more than once without `start`, or does not occur
/// at `start`.
[[nodiscard]] Span find_phrase(std::string_view text, std::string_view phrase,
                               std::optional<std::int64_t> start = std::nullopt);

/// Which tokens make up a phrase.
struct TokenMask {
    at::Tensor mask;  ///< [kMaxTokens] U8, on the CPU
    bool cut_off =
        false;  ///< the token limit cut the phrase, wholly or in part; the mask is then empty
};

/// A token belongs when it covers at least one character of `phrase` other than white space.
/// `encoding` is T5Tokenizer::encode of `text`, `phrase` a span of it.
[[nodiscard]] TokenMask token_mask(const Encoding& encoding, std::string_view text, Span phrase);

}  // namespace matrix::text
