#include "matrix/eval/score_table.h"

#include <gtest/gtest.h>

#include "eval/json_reading.h"
#include "matrix/core/files.h"
#include "matrix/eval/report.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::eval {
namespace {

/// Files of steps 7 and 8 as the public code writes them.
class ScoreTableTest : public ::testing::Test {
protected:
    static Json answered(const std::string& words) {
        Json results = Json::array();
        for (std::size_t i = 0; i < words.size(); ++i) {
            if (words[i] != '-') {
                results.push_back({{"question_id", i + 1},
                                   {"answer", words[i] == 'y'   ? "yes"
                                              : words[i] == 'n' ? "no"
                                                                : "no (visually implausible)"},
                                   {"frame_index", nullptr}});
            }
        }
        return {{"item_index", 0},
                {"key_interaction", "a lifts b"},
                {"questions", std::vector<std::string>(10, "Is it?")},
                {"question_verification_results", results}};
    }
    static Json answers(const std::string& id, std::vector<Json> items) {
        return {{"video_id", id}, {"prompt", "prompt " + id}, {"items", std::move(items)}};
    }
    /// `n` frames, of which the first `e` show an emergence and the first `d` a disappearance.
    static Json flags(const std::string& id, int n, int e, int d) {
        Json frames = Json::array();
        for (int i = 0; i < n; ++i) {
            frames.push_back({{"frame_idx", 5 * (i + 1)},
                              {"emergence", i < e ? "yes" : "no"},
                              {"disappearance", i < d ? "yes" : "no"}});
        }
        return {{"video_id", id}, {"prompt", "prompt " + id}, {"hallucination_results", frames}};
    }
    void put(const std::string& model, const std::string& type, const std::vector<Json>& answered,
             const std::vector<Json>& flagged) const {
        write_json(layout_.answers(model, type), Json(answered));
        write_json(layout_.emergence(model, type), Json(flagged));
    }
    [[nodiscard]] ScoreTable scored(const ScoreOptions& options = {}) const {
        return score(layout_, select(layout_, {}, true), options);
    }
    [[nodiscard]] std::vector<std::string> left_out() const {
        std::vector<std::string> lines;
        for (const LeftOut& left : scored().left_out) {
            lines.push_back(left.line());
        }
        return lines;
    }

    test::TempDirectory directory_;
    Layout layout_{directory_.path()};
};

TEST_F(ScoreTableTest, WritesTheFivePublishedFiles) {
    put("m", "easy",
        {answers("000", {answered("yyyyynyyyn")}), answers("001", {answered("yyyyyyyyyy")})},
        {flags("000", 10, 1, 0), flags("001", 10, 0, 0)});
    put("m", "hard", {answers("000", {answered("nnnnnn!!!!")})}, {flags("000", 10, 10, 10)});
    write_score_files(layout_, scored());

    const Json raw = read_json(layout_.video_scores("m", "easy"));
    const Json expected = {{"prompt", "prompt 000"},
                           {"yes_count", 8},
                           {"total_questions", 10},
                           {"score", 0.8},
                           {"score_percentage", 80.0},
                           {"interaction_score", 0.833},
                           {"interaction_score_percentage", 83.3},
                           {"grounding_score", 0.75},
                           {"grounding_score_percentage", 75.0}};
    EXPECT_EQ(raw.at("video_scores").at("000"), expected);
    EXPECT_EQ(raw.at("overall_statistics").at("total_yes_answers"), 18);
    EXPECT_DOUBLE_EQ(raw.at("overall_statistics").at("average_grounding_score"), 0.875);

    const Json spi = read_json(layout_.scores() / "emergence_disappearance_scores_summary.json");
    const Json expected_spi = {{"emergence_score", 0.5},       {"disappearance_score", 1.0},
                               {"frames_analyzed", 10},        {"emergence_yes_count", 1},
                               {"disappearance_yes_count", 0}, {"SPI_score", 0.75}};
    EXPECT_EQ(spi.at("m").at("easy").at("000"), expected_spi);
    EXPECT_EQ(spi.at("m").at("hard").at("000").at("SPI_score"), -4.0);

    const Json summary = read_json(layout_.scores() / "video_scores_summary.json");
    EXPECT_EQ(summary.at("m").at("easy").at("000"),
              (Json{{"prompt", "prompt 000"}, {"KISA_score", 0.833}, {"SGA_score", 0.75}}));

    const Json combined = read_json(layout_.scores() / "combined_scores_summary.json");
    const Json& video = combined.at("m").at("easy").at("000");
    EXPECT_DOUBLE_EQ(video.at("KISA_SPI"), 0.62475);
    EXPECT_DOUBLE_EQ(video.at("SGA_SPI"), 0.5625);
    EXPECT_DOUBLE_EQ(video.at("IF_score"), 0.593625);

    const Json model = read_json(layout_.scores() / "model_averages_summary.json").at("m");
    EXPECT_EQ(model.at("total_videos"), 3);
    // Videos weigh equally, not data types.
    EXPECT_DOUBLE_EQ(model.at("overall_avg_IF_score"), (0.593625 + 1.0 + 0.0) / 3.0);
    const Json& easy = model.at("sample_type_breakdown").at("easy");
    EXPECT_EQ(easy.at("video_count"), 2);
    EXPECT_DOUBLE_EQ(easy.at("avg_KISA_SPI"), (0.62475 + 1.0) / 2.0);
}

TEST_F(ScoreTableTest, NegativeSpiMultipliesThroughUnlessClamped) {
    put("m", "easy", {answers("000", {answered("yyyyyyyyyy")})}, {flags("000", 10, 10, 0)});
    EXPECT_EQ(scored().folders[0].videos[0].fidelity->fidelity, -1.5);
    ScoreOptions clamp;
    clamp.clamp_spi = true;
    EXPECT_EQ(scored(clamp).folders[0].videos[0].fidelity->fidelity, 0.0);
}

TEST_F(ScoreTableTest, VideosWithoutBothResultsAreLeftOutAndNamed) {
    write_json(layout_.data("easy") / "meta.json",
               Json::array({{{"video_text_prompt", "prompt 000"}, {"objects", Json::array()}},
                            {{"video_text_prompt", "prompt 001"}, {"objects", Json::array()}},
                            {{"video_text_prompt", "prompt 002"}, {"objects", Json::array()}}}));
    put("m", "easy", {answers("000", {answered("yyyyyyyyyy")})}, {flags("001", 10, 0, 0)});
    EXPECT_EQ(left_out(),
              (std::vector<std::string>{"m/easy/000: answers, but no emergence result",
                                        "m/easy/001: an emergence result, but no answers",
                                        "m/easy/002: no answers and no emergence result"}));
    const auto models = averages(scored());
    EXPECT_EQ(models[0].average.videos, 0u);
    EXPECT_FALSE(models[0].average.fidelity);
    write_score_files(layout_, scored());
    const Json file = read_json(layout_.scores() / "model_averages_summary.json").at("m");
    EXPECT_TRUE(file.at("overall_avg_IF_score").is_null());
}

TEST_F(ScoreTableTest, FailedResultsAreNeverScored) {
    Json error_item = answered("yyyyyyyyyy");
    error_item["error"] = "timed out";
    Json twice = answered("yyyyyyyyyy");
    twice["question_verification_results"][1]["question_id"] = 1;
    Json outside = answered("yyyyyyyyyy");
    outside["question_verification_results"][9]["question_id"] = 11;
    Json object = answered("yyyyyyyyyy");
    object["question_verification_results"] = {{"error", "cannot be parsed"}};
    Json failed = answers("007", {answered("yyyyyyyyyy")});
    failed["error"] = "timed out";
    Json other = answers("006", {answered("yyyyyyyyyy")});
    other["prompt"] = "another";
    std::vector<Json> flagged;
    for (const char* id : {"000", "001", "002", "003", "004"}) {
        flagged.push_back(flags(id, 10, 0, 0));
    }
    flagged.push_back(flags("005", 10, 0, 0));
    flagged.back()["hallucination_results"][3]["emergence"] = "error";
    for (const char* id : {"006", "007", "008"}) {
        flagged.push_back(flags(id, 10, 0, 0));
    }
    flagged.back()["error"] = "timed out";
    put("m", "easy",
        {other, failed, answers("008", {answered("yyyyyyyyyy")}), answers("000", {error_item}),
         answers("001", {twice}), answers("002", {outside}), answers("003", {object}),
         answers("004", {}), answers("005", {answered("yyyyyyyyyy")})},
        flagged);
    EXPECT_EQ(left_out(),
              (std::vector<std::string>{
                  "m/easy/000: asking about a key interaction failed",
                  "m/easy/001: question_id 1 is answered twice",
                  "m/easy/002: question_id 11 is not one of 1 to 10",
                  "m/easy/003: an item: `question_verification_results` should be an array",
                  "m/easy/004: its answers have no key interaction",
                  "m/easy/005: `emergence` of a frame is \"error\"",
                  "m/easy/006: judged by another prompt than it has now",
                  "m/easy/007: its result says error", "m/easy/008: its result says error"}));
    EXPECT_EQ(averages(scored())[0].average.videos, 0u);
}

TEST_F(ScoreTableTest, ResultsAboutOtherObjectsAreLeftOut) {
    const Json object = {{"class", "hand"}, {"appearance", "a hand"}};
    Json scenarios = Json::array();
    std::vector<Json> answered_all, flagged;
    for (const std::string id : {"000", "001", "002"}) {
        scenarios.push_back({{"video_text_prompt", "prompt " + id}, {"objects", {object}}});
        answered_all.push_back(answers(id, {answered("yyyyyyyyyy")}));
        flagged.push_back(flags(id, 10, 0, 0));
    }
    write_json(layout_.data("easy") / "meta.json", scenarios);
    flagged[0]["entity"] = {"hand"};  // and the answers say nothing, as in the public code
    flagged[1]["entity"] = {"hand", "ball"};
    answered_all[2]["appearance"] = {"a foot"};
    put("m", "easy", answered_all, flagged);
    EXPECT_EQ(left_out(),
              (std::vector<std::string>{"m/easy/001: judged by other objects than it has now",
                                        "m/easy/002: judged by other objects than it has now"}));
}

TEST_F(ScoreTableTest, APromptThatIsNoTextLeavesOutItsVideoAlone) {
    std::vector<Json> answered_all, flagged;
    for (const char* id : {"000", "001", "002"}) {
        answered_all.push_back(answers(id, {answered("yyyyyyyyyy")}));
        flagged.push_back(flags(id, 10, 0, 0));
    }
    answered_all[0]["prompt"] = nullptr;
    flagged[1]["prompt"] = 5;
    answered_all[2].erase("prompt");  // as in files without any
    flagged[2].erase("prompt");
    put("m", "easy", answered_all, flagged);
    EXPECT_EQ(left_out(),
              (std::vector<std::string>{"m/easy/000: its result: `prompt` should be a text",
                                        "m/easy/001: its result: `prompt` should be a text"}));
    EXPECT_EQ(averages(scored())[0].average.videos, 1u);
}

TEST_F(ScoreTableTest, WhatThePublicCodeCountsIsCountedAndNoted) {
    write_json(layout_.data("easy") / "meta.json",
               Json::array({{{"video_text_prompt", "prompt 000"}, {"objects", Json::array()}}}));
    std::vector<Json> answered_all, flagged;
    for (const char* id : {"000", "007"}) {
        answered_all.push_back(answers(id, {answered("yyyyyyyyyy")}));
        flagged.push_back(flags(id, 4, 1, 0));
    }
    for (const int place : {1, 2}) {
        flagged[0]["hallucination_results"][place]["frame_idx"] = 5;
    }
    flagged[0]["hallucination_results"][3]["frame_idx"] = 0;
    put("m", "easy", answered_all, flagged);
    const ScoreTable table = scored();
    EXPECT_TRUE(table.left_out.empty());
    EXPECT_EQ(table.notes,
              (std::vector<std::string>{
                  "m/easy/000: frames that stand twice, or are the first, count in SPI: 5, 5, 0",
                  "m/easy/007: counts, though meta.json has no such video"}));
    EXPECT_EQ(averages(table)[0].average.videos, 2u);
    EXPECT_EQ(table.folders[0].videos[0].propagation->frames, 4);
}

TEST_F(ScoreTableTest, MissingAnswersAndSingleFramesAreNoted) {
    put("m", "easy",
        {answers("000", {answered("yyyyyyyyy-")}), answers("001", {answered("yyyyyyyyyy")})},
        {flags("000", 10, 0, 0), flags("001", 0, 0, 0)});
    const ScoreTable table = scored();
    EXPECT_TRUE(table.left_out.empty());
    EXPECT_EQ(table.notes,
              (std::vector<std::string>{
                  "m/easy/000: questions without an answer: 1",
                  "m/easy/001: fewer than two frames, so that SPI and all scores are 0"}));
    EXPECT_EQ(table.folders[0].videos[0].fidelity->sgi, 0.75);
    EXPECT_EQ(table.folders[0].videos[1].fidelity->fidelity, 0.0);
}

TEST_F(ScoreTableTest, AFileOfAnotherShapeIsNamed) {
    put("m", "easy", {}, {});
    write_file_atomically(layout_.answers("m", "easy"), "{");
    ASSERT_EQ(left_out().size(), 1u);
    EXPECT_NE(left_out()[0].find("question_verification.json"), std::string::npos);
}

TEST_F(ScoreTableTest, TablesRankByFidelityAndEscape) {
    put("a_b", "easy", {answers("000", {answered("yyynnnyynn")})}, {flags("000", 10, 0, 0)});
    Json entry = answers("000", {answered("yyyyyyyyyy")});
    entry["prompt"] = "a \"b\", <c>";
    Json flagged = flags("000", 10, 0, 0);
    flagged["prompt"] = entry["prompt"];
    put("top", "easy", {entry}, {flagged});
    ScoreTable table = scored();
    const std::string markdown = markdown_table(table);
    EXPECT_LT(markdown.find("| top | easy | 1 | 1.000 |"),
              markdown.find("| a_b | easy | 1 | 0.500 |"));
    EXPECT_NE(latex_table(table).find("a\\_b & easy & 1 & 0.500 & 0.500 & 0.500 & 1.000 \\\\"),
              std::string::npos);
    EXPECT_NE(
        csv_table(table).find("top,easy,000,1,1,1,1,10,0,0,1,1,10,10,0,\"a \"\"b\"\", <c>\"\r\n"),
        std::string::npos);
    table.folders.erase(table.folders.begin());  // a scenario's prompt is its first model's
    const std::string page = html_page(layout_, table, table);
    EXPECT_NE(page.find("a &quot;b&quot;, &lt;c&gt;"), std::string::npos);
    EXPECT_EQ(page.find("<c>"), std::string::npos);
}

TEST_F(ScoreTableTest, TablesEscapeWhateverAFolderMayBeCalled) {
    const std::string name = "<b>\\ {x}~^|&_";
    put(name, "easy", {answers("000", {answered("yyyyyyyyyy")})}, {flags("000", 10, 0, 0)});
    const ScoreTable table = scored();
    EXPECT_NE(markdown_table(table).find("| \\<b>\\\\ {x}~^\\|\\&_ | easy |"), std::string::npos);
    EXPECT_NE(latex_table(table).find("\n<b>\\textbackslash{} \\{x\\}\\textasciitilde{}"
                                      "\\textasciicircum{}|\\&\\_ & easy &"),
              std::string::npos);
}

TEST_F(ScoreTableTest, SelectionNamesWhatIsNotThere) {
    put("good", "easy", {}, {});
    const auto chosen = select(layout_, {{"good"}, {}}, true);
    EXPECT_EQ(chosen.models, std::vector<std::string>{"good"});
    EXPECT_EQ(chosen.data_types, std::vector<std::string>{"easy"});
    test::expect_error<UsageError>(
        [&] {
            (void)select(layout_, {{"god"}, {}}, true);
        },
        {"--model god", "did you mean good?"});
    test::expect_error<UsageError>(
        [&] {
            (void)select(layout_, {{}, {"x"}}, true);
        },
        {"--data-type x"});
    test::expect_error<UsageError>([&] { (void)select({directory_ / "no"}, {}, true); },
                                   {"--root"});
}

}  // namespace
}  // namespace matrix::eval
