#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace matrix::analysis {

/// Consecutive tokens [begin, end) that look like a phrase.
struct TokenSpan {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    double ratio = 0;  ///< how alike, up to 1
};

/// Similarity of two texts after Ratcliff and Obershelp, 2 M / T: M characters (code points) in the
/// longest common substring, the earliest in `a`, then in `b`, and, recursively, in what stands to
/// its left and right; T in both texts. 1 for two empty texts.
[[nodiscard]] double similarity(std::string_view a, std::string_view b);

/// The span rule of the authors' public analysis: the window of as many tokens as the phrase has
/// words, joined by spaces, that is most like the phrase, the first of equals; none below 0.8. T5
/// marks the start of a word by U+2581, which the rule leaves in the tokens (it takes out "_"), so
/// that phrases often lose their noun; it is here to compare with their figures.
[[nodiscard]] std::optional<TokenSpan> published_span(const std::vector<std::string>& tokens,
                                                      std::string_view phrase);

}  // namespace matrix::analysis
