#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// An English caption as words, and what a rule can tell of a word.

namespace matrix::data_source {

enum class Break { kNone, kComma, kSentence };

struct Word {
    std::string lower;
    std::size_t begin = 0, end = 0;  ///< bytes of the caption
    Break before = Break::kNone;     ///< punctuation between the word before and this one
    std::int64_t marker = 0;         ///< N of `<idN>`; 0 for a word proper
};

[[nodiscard]] std::vector<Word> words_of(std::string_view caption);

enum class VerbForm {
    kNone,
    kBase,    ///< "lift": as often a noun
    kFinite,  ///< "lifts", "lifted", "held"
    kIng,
};
/// Of a common verb of interaction; kNone for any other word.
[[nodiscard]] VerbForm verb_form(const std::string& lower);

/// "swirls", "swirled", "swirling": the shape of a verb, and of many a noun.
[[nodiscard]] bool looks_like_a_verb(const std::string& lower);

[[nodiscard]] bool is_determiner(const std::string& lower);   ///< the, another, his, two
[[nodiscard]] bool is_preposition(const std::string& lower);  ///< to, with, behind
[[nodiscard]] bool is_particle(const std::string& lower);     ///< up, away, back
[[nodiscard]] bool is_conjunction(const std::string& lower);  ///< and, then, while, who
[[nodiscard]] bool is_auxiliary(const std::string& lower);    ///< is, has, begins
[[nodiscard]] bool is_adverb(const std::string& lower);       ///< gently, then
[[nodiscard]] bool is_plural(const std::string& lower);       ///< men, dogs

}  // namespace matrix::data_source
