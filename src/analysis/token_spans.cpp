#include "matrix/analysis/token_spans.h"

#include <algorithm>
#include <sstream>

namespace matrix::analysis {
namespace {

constexpr double kLeastRatio = 0.8;

/// One number for each code point of UTF-8.
std::u32string code_points(std::string_view text) {
    std::u32string points;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte & 0xC0) == 0x80 && !points.empty()) {
            points.back() = (points.back() << 6) | (byte & 0x3F);
        } else {
            points.push_back(byte);
        }
    }
    return points;
}

std::size_t matching(std::u32string_view a, std::u32string_view b) {
    std::size_t length = 0, at_a = 0, at_b = 0;
    std::vector<std::size_t> runs(b.size() + 1, 0);  // common suffixes of a[..i) and b[..j)
    for (std::size_t i = 0; i < a.size(); ++i) {
        for (std::size_t j = b.size(); j-- > 0;) {
            runs[j + 1] = a[i] == b[j] ? runs[j] + 1 : 0;
        }
        for (std::size_t j = 1; j <= b.size(); ++j) {
            if (runs[j] > length) {
                length = runs[j];
                at_a = i + 1 - length;
                at_b = j - length;
            }
        }
    }
    return length == 0 ? 0
                       : length + matching(a.substr(0, at_a), b.substr(0, at_b)) +
                             matching(a.substr(at_a + length), b.substr(at_b + length));
}

std::vector<std::string> words_of(std::string_view phrase) {
    std::istringstream stream{std::string(phrase)};
    std::vector<std::string> words;
    for (std::string word; stream >> word;) {
        words.push_back(word);
    }
    return words;
}

std::string joined(const std::vector<std::string>& words, std::size_t begin, std::size_t count) {
    std::string text;
    for (std::size_t i = begin; i < begin + count; ++i) {
        text += (i == begin ? "" : " ") + words[i];
    }
    return text;
}

}  // namespace

double similarity(std::string_view a, std::string_view b) {
    const std::u32string x = code_points(a), y = code_points(b);
    return x.empty() && y.empty() ? 1.0
                                  : 2.0 * static_cast<double>(matching(x, y)) /
                                        static_cast<double>(x.size() + y.size());
}

std::optional<TokenSpan> published_span(const std::vector<std::string>& tokens,
                                        std::string_view phrase) {
    const std::vector<std::string> words = words_of(phrase);
    std::vector<std::string> plain = tokens;
    for (std::string& token : plain) {
        std::erase(token, '_');
    }
    const std::string wanted = joined(words, 0, words.size());
    std::optional<TokenSpan> best;
    for (std::size_t i = 0; !words.empty() && i + words.size() <= plain.size(); ++i) {
        const double ratio = similarity(wanted, joined(plain, i, words.size()));
        if (ratio >= kLeastRatio && (!best || ratio > best->ratio)) {
            best = {static_cast<std::int64_t>(i), static_cast<std::int64_t>(i + words.size()),
                    ratio};
        }
    }
    return best;
}

}  // namespace matrix::analysis
