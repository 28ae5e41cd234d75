#include "matrix/text/t5_tokenizer.h"

#include "matrix/core/error.h"
#include "matrix/core/files.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>

namespace matrix::text {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kAssets = fs::path(MATRIX_SOURCE_DIR) / "assets/t5-tokenizer";

const T5Tokenizer& tokenizer() {
    static const T5Tokenizer instance(kAssets);
    return instance;
}

const nlohmann::json& prompts() {
    static const nlohmann::json json =
        nlohmann::json::parse(read_text_file(fs::path(MATRIX_FIXTURES) / "text/prompts.json"));
    return json;
}

std::vector<std::int64_t> flat(const std::vector<Span>& spans) {
    std::vector<std::int64_t> numbers;
    for (const Span& span : spans) {
        numbers.push_back(span.begin);
        numbers.push_back(span.end);
    }
    return numbers;
}

TEST(T5Tokenizer, GivesTheIdsOfTheSlowTokenizer) {
    ASSERT_GT(prompts().size(), 600u);
    for (const auto& prompt : prompts()) {
        const auto text = prompt["text"].get<std::string>();
        auto ids = prompt["ids"].get<std::vector<std::int64_t>>();
        ids.resize(kMaxTokens, 0);
        EXPECT_EQ(tokenizer().encode(text).ids, ids) << prompt["text"];
    }
}

TEST(T5Tokenizer, GivesEveryTokenItsCharacters) {
    for (const auto& prompt : prompts()) {
        const auto encoding = tokenizer().tokens(prompt["text"].get<std::string>());
        EXPECT_EQ(encoding.ids, prompt["tokens"].get<std::vector<std::int64_t>>());
        EXPECT_EQ(flat(encoding.spans), prompt["spans"].get<std::vector<std::int64_t>>())
            << prompt["text"];
        EXPECT_FALSE(encoding.truncated());
    }
}

TEST(T5Tokenizer, WindowIsThePrefixOfAllTokens) {
    for (const auto& prompt : prompts()) {
        const auto text = prompt["text"].get<std::string>();
        const auto all = tokenizer().tokens(text);
        const auto window = tokenizer().encode(text);
        ASSERT_EQ(window.ids.size(), 226u);
        ASSERT_EQ(window.spans.size(), 226u);
        const std::size_t kept = std::min<std::size_t>(all.ids.size(), 225);
        for (std::size_t i = 0; i < kept; ++i) {
            ASSERT_EQ(window.ids[i], all.ids[i]);
            ASSERT_EQ(window.spans[i], all.spans[i]);
        }
        for (std::size_t i = kept; i < 226; ++i) {
            ASSERT_TRUE(window.spans[i].empty());
        }
        ASSERT_EQ(window.truncated(), all.ids.size() > 225);
        if (window.truncated()) {
            ASSERT_EQ(*window.cut_at, all.spans[225].begin);
        }
    }
}

// Plain words need no normaliser, so the truth is plain too: the spans tile the text.
TEST(T5Tokenizer, SpansOfPlainTextTileIt) {
    for (const std::string text :
         {"Two men in grey coats shake hands, then embrace.", "unbelievably idiosyncratic words",
          "a-b-c (d) \"e\" 12345 $6.78!", "x"}) {
        std::int64_t at = 0;
        for (const Span& span : tokenizer().tokens(text).spans) {
            EXPECT_EQ(span.begin, at) << text;
            at = span.end;
        }
        EXPECT_EQ(at, static_cast<std::int64_t>(text.size())) << text;
    }
}

TEST(T5Tokenizer, SpelledOutSpecialTokens) {
    const auto encoding = tokenizer().tokens("a <extra_id_1> b </s><pad><unk>");
    const std::vector<std::int64_t> ids{3, 9, 32098, 3, 115, 1, 0, 2};
    EXPECT_EQ(encoding.ids, ids);
    EXPECT_EQ(encoding.spans[2], (Span{2, 14}));
    EXPECT_TRUE(encoding.spans[5].empty());
    EXPECT_TRUE(encoding.spans[6].empty());
    EXPECT_EQ(encoding.spans[7], (Span{26, 31}));
}

TEST(T5Tokenizer, InputIdsOfSeveralTexts) {
    const at::Tensor ids = tokenizer().input_ids({"", "a</s>"});
    ASSERT_EQ(ids.sizes(), (std::vector<std::int64_t>{2, 226}));
    EXPECT_EQ(ids[0].sum().item<std::int64_t>(), 1);
    EXPECT_EQ(ids[1][1].item<std::int64_t>(), 9);
    EXPECT_EQ(ids[1].sum().item<std::int64_t>(), 3 + 9 + 1);
    EXPECT_EQ(tokenizer().input_ids({}).sizes(), (std::vector<std::int64_t>{0, 226}));
}

TEST(T5Tokenizer, InvalidUtf8IsReplacedByteByByte) {
    const std::vector<std::string> broken{"a\xFFz",     "a\xC3z",         "a\x80z",
                                          "a\xC0\xAFz", "a\xED\xA0\x80z", "a\xF8\x88\x80\x80\x80z",
                                          "a\xE4\xBDz"};
    for (const std::string& text : broken) {
        const auto last = static_cast<std::int64_t>(text.size()) - 1;
        const auto found = tokenizer().tokens(text);
        EXPECT_EQ(found.ids, (std::vector<std::int64_t>{3, 9, 2, 172}));  // _ a <unk> z
        EXPECT_EQ(flat(found.spans),
                  (std::vector<std::int64_t>{0, 0, 0, 1, 1, last, last, last + 1}));
    }
    EXPECT_EQ(tokenizer().tokens("\xFF<extra_id_0>\xC3").spans[2], (Span{1, 13}));
}

TEST(T5Tokenizer, LongPrompts) {
    std::string words;
    std::string marks;
    while (words.size() < (1u << 20)) {
        words += "word and \xE4\xBD\xA0\xC2\xBD ";
        marks += "<extra_id_3> \xEF\xB7\xBA ";
    }
    EXPECT_TRUE(tokenizer().encode(words).truncated());
    EXPECT_TRUE(tokenizer().encode(marks).truncated());
    EXPECT_EQ(tokenizer().encode(std::string(1u << 20, 'a')).ids.size(), 226u);
    EXPECT_EQ(tokenizer().encode(std::string(1u << 15, '<')).ids[1], 2);
    EXPECT_EQ(tokenizer().encode(std::string(1u << 20, ' ')).ids, tokenizer().encode("").ids);
    const auto all = tokenizer().tokens(words);
    EXPECT_EQ(all.ids.size(), all.spans.size());
    EXPECT_GT(all.ids.size(), 200000u);
}

class TokenizerFiles : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "matrix_text_XXXXXX").string();
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        for (const char* name : {"spiece.model", "tokenizer_config.json", "added_tokens.json"}) {
            fs::copy_file(kAssets / name, directory_ / name);
        }
    }
    void TearDown() override { fs::remove_all(directory_); }

    void write(const char* name, const std::string& content) const {
        std::ofstream(directory_ / name, std::ios::binary) << content;
    }
    // The one line a user would see.
    [[nodiscard]] std::string fault() const {
        testing::internal::CaptureStderr();
        std::string message = "no error";
        try {
            const T5Tokenizer loaded(directory_);
        } catch (const RunError& error) {
            message = error.what();
        }
        EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
        return message;
    }

    fs::path directory_;
};

TEST_F(TokenizerFiles, OnlyTheModelIsNeeded) {
    fs::remove(directory_ / "tokenizer_config.json");
    fs::remove(directory_ / "added_tokens.json");
    EXPECT_EQ(T5Tokenizer(directory_).encode("a </s>").ids, tokenizer().encode("a </s>").ids);
}

TEST_F(TokenizerFiles, MissingOrDamagedModel) {
    const std::string model = read_text_file(kAssets / "spiece.model");
    fs::remove(directory_ / "spiece.model");
    EXPECT_THAT(fault(), HasSubstr("spiece.model"));
    for (const std::string& content :
         {std::string(), std::string("not a model"), std::string(1000, '\0'),
          model.substr(0, model.size() / 2), model.substr(0, 400000), model.substr(1)}) {
        write("spiece.model", content);
        EXPECT_THAT(fault(), HasSubstr("spiece.model"));
    }
}

// Field 1 of the model's protobuf is the pieces, 3 the normaliser: a file cut between fields still
// parses.
TEST_F(TokenizerFiles, ModelCutBetweenFields) {
    const std::string model = read_text_file(kAssets / "spiece.model");
    std::size_t at = 0;
    std::size_t pieces = 0;
    while (model[at] == 0x0A) {
        at += 2 + static_cast<unsigned char>(model[at + 1]);
        if (++pieces == 500) {
            write("spiece.model", model.substr(0, at));
            EXPECT_THAT(fault(), HasSubstr("500 pieces"));
        }
    }
    ASSERT_EQ(pieces, 32000u);
    write("spiece.model", model.substr(0, at));
    EXPECT_THAT(fault(), HasSubstr("spiece.model"));
}

TEST_F(TokenizerFiles, OtherTokenizers) {
    write("tokenizer_config.json", R"({"legacy": false})");
    EXPECT_THAT(fault(), testing::AllOf(HasSubstr("tokenizer_config.json"), HasSubstr("legacy")));
    write("tokenizer_config.json", R"({"extra_ids": 50})");
    EXPECT_THAT(fault(), HasSubstr("extra_ids"));
    write("tokenizer_config.json", "{");
    EXPECT_THAT(fault(), HasSubstr("tokenizer_config.json"));
    write("tokenizer_config.json", "[]");
    EXPECT_THAT(fault(), HasSubstr("tokenizer_config.json"));
    write("tokenizer_config.json", "{}");
    EXPECT_EQ(fault(), "no error");
    write("added_tokens.json", R"({"<extra_id_0>": 32099, "<extra_id_1>": 7})");
    EXPECT_THAT(fault(), testing::AllOf(HasSubstr("added_tokens.json"), HasSubstr("extra_id_1")));
    write("added_tokens.json", R"({"<mask>": 32100})");
    EXPECT_THAT(fault(), HasSubstr("<mask>"));
}

}  // namespace
}  // namespace matrix::text
