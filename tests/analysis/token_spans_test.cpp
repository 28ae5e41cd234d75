#include "matrix/analysis/token_spans.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "matrix/text/t5_tokenizer.h"

namespace matrix::analysis {
namespace {

constexpr const char* kPrompts[] = {
    "The man in a gray T-shirt with short black hair opens the silver fridge door in the kitchen.",
    "The colleague in a navy suit shakes hands with the colleague in a gray suit in the office.",
    "The boy in a blue hoodie with curly hair presses the round elevator button.",
    "The woman in a red coat pushes a stroller along a park path."};

std::vector<std::string> tokens_of(int prompt, bool with_marks) {
    static const text::T5Tokenizer tokenizer(std::filesystem::path(MATRIX_SOURCE_DIR) /
                                             "assets/t5-tokenizer");
    std::vector<std::string> pieces;
    for (const std::int64_t id : tokenizer.tokens(kPrompts[prompt]).ids) {
        pieces.push_back(tokenizer.piece(id));
    }
    pieces.push_back(tokenizer.piece(1));
    for (std::string& piece : pieces) {
        const std::size_t mark = piece.find("\u2581");
        if (!with_marks && mark != std::string::npos) {
            piece.erase(mark, std::string("\u2581").size());
        }
    }
    return pieces;
}

struct Case {
    int prompt;
    const char* phrase;
    std::int64_t begin, last;  ///< -1: no span
    double ratio;
    std::int64_t plain_begin, plain_last;
    double plain_ratio;
};

/// The rule's figures on four prompts, as published and with the marks taken out.
class PublishedSpans : public ::testing::TestWithParam<Case> {};

void expect_span(const std::optional<TokenSpan>& span, std::int64_t begin, std::int64_t last,
                 double ratio) {
    if (begin < 0) {
        EXPECT_FALSE(span) << span->begin << " to " << span->end << " at " << span->ratio;
        return;
    }
    ASSERT_TRUE(span);
    EXPECT_EQ(span->begin, begin);
    EXPECT_EQ(span->end, last + 1);
    EXPECT_NEAR(span->ratio, ratio, 5e-4);
}

TEST_P(PublishedSpans, AreThoseOfTheRule) {
    const Case& c = GetParam();
    expect_span(published_span(tokens_of(c.prompt, true), c.phrase), c.begin, c.last, c.ratio);
    expect_span(published_span(tokens_of(c.prompt, false), c.phrase), c.plain_begin, c.plain_last,
                c.plain_ratio);
}

INSTANTIATE_TEST_SUITE_P(
    Prompts, PublishedSpans,
    ::testing::Values(
        Case{0, "man", 1, 1, .857, 1, 1, 1.0}, Case{0, "opens", 13, 13, .909, 13, 13, 1.0},
        Case{0, "silver fridge door", 15, 17, .923, 15, 17, 1.0},
        Case{0, "man in a gray T-shirt with short black hair", 4, 12, .828, 4, 12, .889},
        Case{1, "shakes", 7, 7, .833, 7, 7, .909}, Case{1, "shakes hands", -1, -1, 0, -1, -1, 0},
        Case{1, "colleague in a navy suit", -1, -1, 0, 1, 5, .864},
        Case{1, "colleague in a gray suit", -1, -1, 0, 12, 16, .864},
        Case{1, "colleague", 1, 1, .947, 1, 1, 1.0}, Case{2, "presses", 14, 14, .857, 14, 14, .923},
        Case{3, "pushes", -1, -1, 0, 7, 7, .8}));

TEST(PublishedSpan, PromptsHaveTheirNumbersOfTokens) {
    EXPECT_EQ(tokens_of(0, true).size(), 23U);
    EXPECT_EQ(tokens_of(1, true).size(), 23U);
    EXPECT_EQ(tokens_of(2, true).size(), 22U);
    EXPECT_EQ(tokens_of(3, true).size(), 21U);
}

TEST(Similarity, CountsTheLongestCommonPartsFirst) {
    EXPECT_DOUBLE_EQ(similarity("abcd", "bcde"), 0.75);
    EXPECT_DOUBLE_EQ(similarity("ab", "\u2581ab"), 0.8);  // a code point is one character
    EXPECT_DOUBLE_EQ(similarity("a", "\u2581a"), 2.0 / 3.0);
    EXPECT_DOUBLE_EQ(similarity("", ""), 1.0);
    EXPECT_DOUBLE_EQ(similarity("abc", ""), 0.0);
    // "private Thread currentThread" is the classic where the earliest longest part decides.
    EXPECT_NEAR(
        similarity("private Thread currentThread;", "private volatile Thread currentThread;"),
        0.866, 5e-4);
}

TEST(PublishedSpan, TakesTheEarliestOfEqualWindowsAndDropsUnderscores) {
    EXPECT_EQ(published_span({"dog", "dog"}, "dog")->begin, 0);
    EXPECT_DOUBLE_EQ(published_span({"_dog"}, "dog")->ratio, 1.0);
    EXPECT_FALSE(published_span({"dog"}, "two dogs"));
    EXPECT_FALSE(published_span({"dog"}, "  "));
}

}  // namespace
}  // namespace matrix::analysis
