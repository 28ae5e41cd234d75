#include "matrix/text/phrases.h"

#include "matrix/core/error.h"
#include "text/unicode.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace matrix::text {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const T5Tokenizer& tokenizer() {
    static const T5Tokenizer instance(std::string(MATRIX_SOURCE_DIR) + "/assets/t5-tokenizer");
    return instance;
}

std::string message_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const RunError& error) {
        return error.what();
    }
    return "no error";
}

TEST(StripIdMarkers, DeletesMarkersAndTidiesSpaces) {
    EXPECT_EQ(strip_id_markers("The <id1> man hugs <id12> a child."), "The man hugs a child.");
    EXPECT_EQ(strip_id_markers("<id1>man<id2>"), "man");
    EXPECT_EQ(strip_id_markers("a<id1>b"), "ab");
    EXPECT_EQ(strip_id_markers(" a \t\n b\u00a0\u3000c\u2028"), "a b c");
    EXPECT_EQ(strip_id_markers("a\x1c\x85 b"), std::string("a \x85 b")) << "a lone byte is no NEL";
    EXPECT_EQ(strip_id_markers("a\u0085b \u200bc"), "a b \u200bc");
    EXPECT_EQ(strip_id_markers(std::string("\0 a", 3)), std::string("\0 a", 3));
    EXPECT_EQ(strip_id_markers("<id1>"), "");
    EXPECT_EQ(strip_id_markers(""), "");
}

TEST(StripIdMarkers, LeavesWhatOnlyLooksLikeOne) {
    for (const char* text :
         {"<id>", "<id1", "<ID1>", "<id 1>", "<idx1>", "< id1>", "<id1.0>", "<id\u0661>"}) {
        EXPECT_EQ(strip_id_markers(text), text);
    }
    EXPECT_EQ(strip_id_markers("<id<id1>2>"), "<id2>") << "one pass, as a regular expression would";
}

TEST(FindPhrase, NeedsWholeWords) {
    EXPECT_EQ(find_phrase("a woman and a man", "man"), (Span{14, 17}));
    EXPECT_EQ(find_phrase("man-made woman", "man"), (Span{0, 3}));
    EXPECT_EQ(find_phrase("the man's hat", "man"), (Span{4, 7}));
    EXPECT_EQ(find_phrase("snake_case", "snake"), (Span{0, 5}));
    EXPECT_EQ(find_phrase("\u00e9man man", "man"), (Span{5, 8})) << "e acute is a letter";
    EXPECT_EQ(find_phrase("\u4e2dman man", "man"), (Span{5, 8}));
    EXPECT_EQ(find_phrase("\u0663man man", "man"), (Span{5, 8})) << "an Arabic digit";
    EXPECT_EQ(find_phrase("\U0001f600man", "man"), (Span{1, 4})) << "an emoji is neither";
    EXPECT_EQ(find_phrase("say \"hi!\"", "\"hi!\""), (Span{4, 9}));
}

TEST(FindPhrase, CountsCodePoints) {
    EXPECT_EQ(find_phrase("\U0001f600 \u00fcber den Mann", "den Mann"), (Span{7, 15}));
    EXPECT_EQ(find_phrase("\xFF\xFF man", "man"), (Span{3, 6}));
}

TEST(FindPhrase, StartChooses) {
    EXPECT_EQ(find_phrase("a man and a man", "man", 12), (Span{12, 15}));
    EXPECT_EQ(find_phrase("a man and a man", "man", 2), (Span{2, 5}));
    EXPECT_EQ(find_phrase("a man", "man", 2), (Span{2, 5}));
    EXPECT_EQ(find_phrase("a a a", "a a", 2), (Span{2, 5})) << "occurrences may overlap";
}

TEST(FindPhrase, ErrorsShowTheText) {
    EXPECT_THAT(message_of([] { (void)find_phrase("a woman", "man"); }),
                AllOf(HasSubstr("\"man\" does not occur"), HasSubstr("\"a woman\"")));
    EXPECT_THAT(message_of([] { (void)find_phrase("A Man", "man"); }), HasSubstr("does not occur"));
    EXPECT_THAT(
        message_of([] { (void)find_phrase("a man, a man", "man"); }),
        AllOf(HasSubstr("occurs 2 times"), HasSubstr("\"a man, a man\""), HasSubstr("2, 9")));
    EXPECT_THAT(message_of([] { (void)find_phrase("a man, a man", "man", 3); }),
                AllOf(HasSubstr("does not start at 3 but at 2, 9"), HasSubstr("\"a man, a man\"")));
    EXPECT_THAT(message_of([] { (void)find_phrase("a man", "man", -1); }), HasSubstr("at -1"));
    EXPECT_THAT(message_of([] { (void)find_phrase("a woman, man", "man", 4); }), HasSubstr("at 4"));
    EXPECT_THAT(message_of([] { (void)find_phrase("a man", ""); }), HasSubstr("empty phrase"));
    EXPECT_THAT(message_of([] { (void)find_phrase("a man", " \u00a0"); }),
                HasSubstr("empty phrase"));
    EXPECT_THAT(message_of([] { (void)find_phrase("line\none", "man"); }), HasSubstr("line\\none"));
    EXPECT_LT(message_of([] { (void)find_phrase(std::string(1u << 20, 'x'), "man"); }).size(),
              3000u);
}

std::vector<std::int64_t> chosen(const TokenMask& mask) {
    const at::Tensor indices = mask.mask.nonzero().flatten();
    return {indices.data_ptr<std::int64_t>(), indices.data_ptr<std::int64_t>() + indices.numel()};
}

TokenMask mask_of(const std::string& text, const std::string& phrase) {
    return token_mask(tokenizer().encode(text), text, find_phrase(text, phrase));
}

TEST(TokenMask, TokensThatCoverThePhrase) {
    // ▁Two ▁men ▁ shake ▁hands , ▁then ▁embrace .
    const std::string text = "Two men shake hands, then embrace.";
    EXPECT_EQ(chosen(mask_of(text, "men")), (std::vector<std::int64_t>{1}));
    EXPECT_EQ(chosen(mask_of(text, "Two men")), (std::vector<std::int64_t>{0, 1}));
    EXPECT_EQ(mask_of(text, "hands").mask.sizes(), (std::vector<std::int64_t>{226}));
    EXPECT_EQ(mask_of(text, "hands").mask.scalar_type(), at::kByte);
    // The space before a word belongs to the word's piece; as a piece of its own it belongs to
    // nothing.
    const auto encoding = tokenizer().encode("a b");  // ▁ a ▁ b
    EXPECT_EQ(encoding.ids[0], 3);
    EXPECT_EQ(chosen(token_mask(encoding, "a b", {0, 3})), (std::vector<std::int64_t>{1, 3}));
    EXPECT_TRUE(chosen(token_mask(encoding, "a b", {1, 2})).empty());
    EXPECT_TRUE(chosen(token_mask(encoding, "a b", {1, 1})).empty());
}

TEST(TokenMask, EveryPieceOfAnExpandedCharacter) {
    const auto encoding = tokenizer().encode("\u00bd cup");  // ▁1 ⁄ 2 ▁cup
    EXPECT_EQ(chosen(token_mask(encoding, "\u00bd cup", {0, 1})),
              (std::vector<std::int64_t>{0, 1, 2}));
}

TEST(TokenMask, EndMarksBelongToNothing) {
    const std::string text = "man </s>";
    EXPECT_EQ(chosen(token_mask(tokenizer().encode(text), text, {0, 8})),
              (std::vector<std::int64_t>{0}));
}

TEST(TokenMask, PhrasesBehindTheLimit) {
    std::string text;
    for (int i = 0; i < 224; ++i) {
        text += "word ";
    }
    text += "red shoes run";  // tokens 224, 225 and 226
    EXPECT_EQ(chosen(mask_of(text, "red")), (std::vector<std::int64_t>{224}));
    EXPECT_FALSE(mask_of(text, "red").cut_off);
    for (const char* phrase : {"run", "shoes", "red shoes"}) {
        const TokenMask cut = mask_of(text, phrase);
        EXPECT_TRUE(cut.cut_off) << phrase;
        EXPECT_TRUE(chosen(cut).empty()) << phrase;
    }
}

TEST(Unicode, SpacesAreCutFromBothEnds) {
    EXPECT_EQ(strip_left("\u3000 \u00a0\ta "), "a ");
    EXPECT_EQ(strip_right(" a\u3000 \u00a0\t"), " a");
    EXPECT_EQ(strip_right("\u3000\u00a0"), "");
    EXPECT_EQ(strip_left("\u2003"), "");
    EXPECT_EQ(strip_right("a\u200b"), "a\u200b");
    EXPECT_EQ(strip_right("a\xA0"), "a\xA0");
}

}  // namespace
}  // namespace matrix::text
