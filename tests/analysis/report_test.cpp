#include "matrix/analysis/report.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <sstream>

#include "lora/adapters.h"
#include "matrix/analysis/charts.h"
#include "matrix/analysis/tables.h"
#include "matrix/core/files.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::analysis {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// Two entities, two steps, three layers; the score is easy to know: 100 e + 10 s + l + v.
VideoRecord record(const std::string& video, double v) {
    VideoRecord r;
    r.video = video;
    r.prompt = "A <b>man</b> & a \"cart\"";
    for (const bool verb : {false, true}) {
        Entity e;
        e.name = verb ? "verb1" : "id1";
        e.word = verb ? "pushes, hard" : "man";
        e.verb = verb;
        e.tokens = at::ones({4}, at::kBool);
        e.cells = at::ones({2, 2, 2}, at::kBool);
        r.entities.push_back(e);
    }
    r.timesteps = {900, 100};
    const at::Tensor scores = at::arange(2, at::kDouble).view({2, 1, 1}) * 100 +
                              at::arange(2, at::kDouble).view({1, 2, 1}) * 10 +
                              at::arange(3, at::kDouble).view({1, 1, 3}) + v;
    r.v2t_scores = scores.unsqueeze(3).repeat({1, 1, 1, 8});
    r.v2v_scores = (scores / 1000).unsqueeze(3).unsqueeze(4).repeat({1, 1, 1, 3, 8});
    r.v2t = lora::testing::values("v2t", {2, 3, 2, 2, 2});
    r.v2v = lora::testing::values("v2v", {2, 3, 2, 2, 2});
    r.made_from = "this";
    return r;
}

std::vector<std::vector<std::string>> rows_of(const std::string& csv) {
    std::vector<std::vector<std::string>> rows;
    std::istringstream lines(csv);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        rows.emplace_back();
        for (std::string field; std::getline(fields, field, ',');) {
            rows.back().push_back(field);
        }
    }
    return rows;
}

TEST(Summarise, MeansOverStepsAndEntitiesByVariant) {
    const Summary summary = summarise({record("a", 0), record("b", 2)}, {});
    const VariantSummary& noun = summary.variants[0];
    EXPECT_EQ(noun.scores.videos, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(noun.scores.values[0], (std::vector<double>{5, 6, 7}));
    EXPECT_EQ(noun.scores.values[1], (std::vector<double>{7, 8, 9}));
    EXPECT_EQ(noun.heat[2], (std::vector<double>{3, 13}));
    EXPECT_EQ(summary.variants[1].scores.values[0], (std::vector<double>{105, 106, 107}));
    EXPECT_EQ(summary.sga_blocks, std::vector<std::int64_t>{2});
    EXPECT_EQ(summary.spa_blocks, std::vector<std::int64_t>{2});
}

TEST(Summarise, NounsOfAClipAreOneScore) {
    VideoRecord two = record("a", 0);
    two.entities[1].verb = false;
    const Summary summary = summarise({two}, {});
    EXPECT_EQ(summary.variants[0].scores.values[0], (std::vector<double>{55, 56, 57}));
    EXPECT_TRUE(summary.variants[1].scores.videos.empty());
    two.v2t_scores[1].fill_(std::nan(""));
    EXPECT_EQ(summarise({two}, {}).variants[0].scores.values[0], (std::vector<double>{5, 6, 7}))
        << "an entity that was not read does not count as 0";
}

TEST(Summarise, RefusesRecordsOfDifferentReadings) {
    VideoRecord other = record("b", 0);
    other.timesteps = {900};
    test::expect_error([&] { (void)summarise({record("a", 0), other}, {}); }, {"b", "steps"});
    test::expect_error([] { (void)summarise({}, {}); });
}

TEST(Tables, ScoresHaveOneRowForEachReading) {
    const std::string csv = scores_csv({record("dir, a.mp4", 0)});
    EXPECT_THAT(csv, HasSubstr("video,entity,word,kind,path,range,step,timestep,layer,tp_sum"));
    // Entities x (v2t + three ranges of v2v) x steps x layers, and the head.
    EXPECT_EQ(std::ranges::count(csv, '\n'), 1 + 2 * 4 * 2 * 3);
    EXPECT_THAT(csv,
                HasSubstr("\r\n\"dir, a.mp4\",verb1,\"pushes, hard\",verb,v2t,whole,1,100,2,112,"));
    EXPECT_THAT(csv, HasSubstr(",v2v,cross,1,100,2,0.112"));
}

TEST(Tables, OfVariants) {
    const Summary summary =
        summarise({record("a", 0), record("b", 2)}, {.outcomes = {{"a", false}, {"b", true}}});
    const auto influence = rows_of(influence_csv(summary.variants[0]));
    ASSERT_EQ(influence.size(), 4U);
    EXPECT_EQ(influence[3][0], "2");
    EXPECT_EQ(influence[3][1], "2");
    EXPECT_EQ(influence[3][2], "8");
    EXPECT_EQ(influence[3][5], "3");  // ranks 2 (of three equal frequencies) and 1
    const auto dominance = rows_of(dominance_csv(summary.variants[0]));
    ASSERT_EQ(dominance.size(), 4U);
    EXPECT_EQ(dominance[1][1], "1");
    EXPECT_EQ(dominance[1][2], "-1");
    const auto variance = rows_of(variance_csv(summary.variants[0]));
    EXPECT_EQ(variance[1][2], "1");
    const nlohmann::ordered_json json = summary_json({record("a", 0), record("b", 2)}, summary);
    EXPECT_EQ(json["layers"]["sga"].dump(), "[0]") << "all layers separate alike: the first";
    EXPECT_EQ(json["variants"]["noun_v2t"]["scores"]["b"][2], 9.0);
    EXPECT_EQ(json["clips"][0]["entities"][1]["kind"], "verb");
}

TEST(Record, ComesBackFromItsFile) {
    const test::TempDirectory directory;
    VideoRecord written = record("a", 0.125);
    written.v2t_scores[0][0][0][kTpMean] = std::nan("");
    write_record(directory / "a.safetensors", written);
    const VideoRecord read = read_record(directory / "a.safetensors");
    EXPECT_EQ(read.video, "a");
    EXPECT_EQ(read.prompt, written.prompt);
    EXPECT_EQ(read.made_from, "this");
    EXPECT_EQ(read.timesteps, written.timesteps);
    EXPECT_EQ(read.entities[1].word, "pushes, hard");
    EXPECT_TRUE(read.entities[1].verb);
    test::expect_equal(read.entities[0].cells, written.entities[0].cells, "cells");
    test::expect_equal(read.v2t_scores, written.v2t_scores, "scores");
    test::expect_equal(read.v2v, written.v2v, "maps");
}

TEST(Record, OtherFilesAreRefused) {
    const test::TempDirectory directory;
    tensor_io::write_safetensors(directory / "x.safetensors", {{"v2t", at::ones({1})}});
    test::expect_error([&] { (void)read_record(directory / "x.safetensors"); },
                       {"x.safetensors", "no record of an analysis"});
    std::ofstream(directory / "y.safetensors") << "nonsense";
    test::expect_error([&] { (void)read_record(directory / "y.safetensors"); }, {"y.safetensors"});
}

TEST(Charts, MarkTextAndLeaveNaNGrey) {
    const std::vector<std::vector<double>> values = {{0, 1}, {std::nan(""), 0.5}};
    const std::vector<std::int64_t> steps = {900, 100};
    const std::string svg = heat_map_svg({"<heat> & \"more\"", values, steps, 1, {1}});
    EXPECT_THAT(svg, HasSubstr("&lt;heat&gt; &amp; &quot;more&quot;"));
    EXPECT_THAT(svg, HasSubstr("layer 1, timestep 900: no score"));
    EXPECT_THAT(svg, HasSubstr("layer 0, timestep 100: 1"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_EQ(largest(values), 1);
}

TEST(Report, IsOnePageWithEverythingInIt) {
    const Summary base = summarise({record("a", 0), record("b", 2)}, {});
    const Summary adapter = summarise({record("a", 1), record("b", 5)}, {});
    const Report report{"Where <attention> looks",
                        {"How it came about."},
                        {{"adapter", adapter, 2}, {"base", base, 2}},
                        {{"a.mp4: <prompt>", "M"}, {"b", "Ma"}, {"c", "Man"}},
                        {"row 3: no masks"}};
    const std::string html = report_html(report);
    EXPECT_THAT(html, HasSubstr("Where &lt;attention&gt; looks"));
    EXPECT_THAT(html, HasSubstr("data:image/jpeg;base64,TQ==\""));
    EXPECT_THAT(html, HasSubstr("data:image/jpeg;base64,TWE=\""));
    EXPECT_THAT(html, HasSubstr("data:image/jpeg;base64,TWFu\""));
    EXPECT_THAT(html, HasSubstr("row 3: no masks"));
    EXPECT_THAT(html, HasSubstr("<th>base</th><th>adapter</th>"));
    // Nothing is fetched: the only addresses are the names of XML's vocabulary.
    EXPECT_THAT(html, Not(HasSubstr("<script")));
    EXPECT_THAT(html, Not(HasSubstr("href=")));
    EXPECT_THAT(html, Not(HasSubstr("src=\"h")));
}

}  // namespace
}  // namespace matrix::analysis
