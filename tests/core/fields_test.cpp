#include "matrix/core/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace matrix {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Sga {
    std::vector<std::int64_t> blocks{7, 9};
    std::string rows = "both";
    double weight = 1.5;
};

struct Config {
    std::int64_t rank = 16;
    double rate = 1e-4;
    bool shuffle = true;
    std::string output = "runs";
    std::optional<std::int64_t> budget;
    std::optional<double> clip = 1.0;
    std::optional<std::string> dtype;
    std::vector<double> betas{0.9, 0.99};
    std::vector<std::string> targets{"to_q"};
    bool has_sga = true;
    Sga sga;

    FieldTable fields() {
        FieldTable table;
        table.add("rank", rank, "Rank.").range(1, 4096);
        table.add("rate", rate, "Learning | rate.").above(0, 1);
        table.add("shuffle", shuffle, "Shuffle.");
        table.add("output", output, "Directory.");
        table.add("budget", budget, "Bytes.").range(0).null_word("auto");
        table.add("clip", clip, "Clip.").above(0);
        table.add("dtype", dtype, "Type.").one_of({"float32", "bfloat16"});
        table.add("betas", betas, "Betas.").range(0, 1).length(2);
        table.add("targets", targets, "Targets.").one_of({"to_q", "to_k"});
        FieldTable inner;
        inner.add("blocks", sga.blocks, "Blocks.").range(0);
        inner.add("rows", sga.rows, "Rows.").one_of({"both", "v2t"});
        inner.add("weight", sga.weight, "Weight.");
        FieldTable alignment;
        alignment.add_optional_section("sga", std::move(inner), has_sga, "Grounding.");
        table.add_section("alignment", std::move(alignment), "Losses.");
        return table;
    }
};

std::vector<std::string> read(Config& config, const char* text) {
    std::vector<std::string> faults;
    config.fields().read(json::parse(text), faults);
    return faults;
}

std::vector<std::string> set(Config& config, const char* assignment) {
    std::vector<std::string> faults;
    config.fields().set(assignment, faults);
    return faults;
}

TEST(Fields, ReadsEveryKindOfValue) {
    Config c;
    EXPECT_THAT(read(c, R"({"rank": 4, "rate": 1, "shuffle": false, "output": "x", "budget": 7,
                            "clip": null, "dtype": "bfloat16", "betas": [0, 1.0], "targets": [],
                            "alignment": {"sga": {"blocks": [1], "weight": 2}}})"),
                IsEmpty());
    EXPECT_EQ(c.rank, 4);
    EXPECT_EQ(c.rate, 1.0);
    EXPECT_FALSE(c.shuffle);
    EXPECT_EQ(c.output, "x");
    EXPECT_EQ(c.budget, 7);
    EXPECT_FALSE(c.clip.has_value());
    EXPECT_EQ(c.dtype, "bfloat16");
    EXPECT_THAT(c.betas, ElementsAre(0.0, 1.0));
    EXPECT_THAT(c.targets, IsEmpty());
    EXPECT_THAT(c.sga.blocks, ElementsAre(1));
    EXPECT_EQ(c.sga.weight, 2.0);
    EXPECT_EQ(c.sga.rows, "both");
}

TEST(Fields, WhatIsWrittenReadsBackTheSame) {
    Config c;
    c.clip.reset();
    c.has_sga = false;
    const json written = c.fields().write();
    EXPECT_EQ(written["budget"], "auto");
    EXPECT_EQ(written["clip"], nullptr);
    EXPECT_EQ(written["alignment"]["sga"], nullptr);
    Config other;
    EXPECT_THAT(read(other, written.dump().c_str()), IsEmpty());
    EXPECT_EQ(other.fields().write(), written);
}

TEST(Fields, EveryFaultIsReportedAtOnce) {
    Config c;
    EXPECT_THAT(
        read(c,
             R"({"rank": "abc", "rnak": 1, "alignment": {"sga": {"blokcs": [], "blocks": [1, -1]}},
                    "zzz": 1})"),
        ElementsAre("alignment.sga.blocks[1]: -1 is not at least 0",
                    "alignment.sga.blokcs: unknown field (did you mean \"blocks\"?)",
                    "rank: expected an integer, got \"abc\"",
                    "rnak: unknown field (did you mean \"rank\"?)", "zzz: unknown field"));
    EXPECT_EQ(c.rank, 16);
    EXPECT_THAT(c.sga.blocks, ElementsAre(7, 9));
}

struct BadValue {
    const char* json;
    const char* fault;
};

class FieldsRefuse : public ::testing::TestWithParam<BadValue> {};

TEST_P(FieldsRefuse, TheValue) {
    Config c;
    const json before = c.fields().write();
    EXPECT_THAT(read(c, GetParam().json), ElementsAre(GetParam().fault));
    EXPECT_EQ(c.fields().write(), before);
}

INSTANTIATE_TEST_SUITE_P(
    All, FieldsRefuse,
    ::testing::Values(
        BadValue{R"({"rank": 0})", "rank: 0 is outside 1..4096"},
        BadValue{R"({"rank": 4.0})", "rank: expected an integer, got 4.0"},
        BadValue{R"({"rank": null})", "rank: expected an integer, got null"},
        BadValue{R"({"rank": 18446744073709551615})",
                 "rank: expected an integer, got 18446744073709551615"},
        BadValue{R"({"rate": 0})", "rate: 0 is not above 0, at most 1"},
        BadValue{R"({"rate": 1.5})", "rate: 1.5 is not above 0, at most 1"},
        BadValue{R"({"shuffle": 1})", "shuffle: expected true or false, got 1"},
        BadValue{R"({"output": ["a"]})", "output: expected a string, got [\"a\"]"},
        BadValue{R"({"budget": null})", "budget: expected an integer or \"auto\", got null"},
        BadValue{R"({"budget": -1})", "budget: -1 is not at least 0"},
        BadValue{R"({"clip": "off"})", "clip: expected a number or null, got \"off\""},
        BadValue{R"({"dtype": "bfloat61"})",
                 "dtype: \"bfloat61\" is not one of \"float32\", \"bfloat16\" (did you mean "
                 "\"bfloat16\"?)"},
        BadValue{R"({"betas": [0.9]})", "betas: expected 2 elements, got 1"},
        BadValue{R"({"betas": [0.9, 1.1]})", "betas[1]: 1.1 is outside 0..1"},
        BadValue{R"({"betas": 0.9})", "betas: expected a list, got 0.9"},
        BadValue{R"({"targets": ["ff"]})", "targets[0]: \"ff\" is not one of \"to_q\", \"to_k\""},
        BadValue{R"({"alignment": null})", "alignment: expected an object, got null"},
        BadValue{R"({"alignment": {"sga": 3}})", "alignment.sga: expected an object, got 3"},
        BadValue{R"([])", "the config: expected an object, got []"}));

TEST(Fields, LongValuesAreCutInMessages) {
    Config c;
    const json value = {{"rank", std::string(1000, 'x')}};
    std::vector<std::string> faults;
    c.fields().read(value, faults);
    ASSERT_EQ(faults.size(), 1u);
    EXPECT_LT(faults[0].size(), 120u);
}

TEST(Fields, SetTakesJsonOrABareString) {
    Config c;
    EXPECT_THAT(set(c, "rank=8"), IsEmpty());
    EXPECT_THAT(set(c, "output=a=b"), IsEmpty());
    EXPECT_THAT(set(c, "dtype=float32"), IsEmpty());
    EXPECT_THAT(set(c, "alignment.sga.blocks=[3,4]"), IsEmpty());
    EXPECT_THAT(set(c, "budget=auto"), IsEmpty());
    EXPECT_EQ(c.rank, 8);
    EXPECT_EQ(c.output, "a=b");
    EXPECT_EQ(c.dtype, "float32");
    EXPECT_THAT(c.sga.blocks, ElementsAre(3, 4));
    // A directory called 2024 is a string all the same.
    EXPECT_THAT(set(c, "output=2024"), IsEmpty());
    EXPECT_EQ(c.output, "2024");
    EXPECT_THAT(set(c, "output=\"quoted\""), IsEmpty());
    EXPECT_EQ(c.output, "quoted");
}

TEST(Fields, SetSwitchesOptionalSections) {
    Config c;
    EXPECT_THAT(set(c, "alignment.sga=null"), IsEmpty());
    EXPECT_FALSE(c.has_sga);
    EXPECT_THAT(set(c, "alignment.sga.rows=v2t"), IsEmpty());
    EXPECT_TRUE(c.has_sga);
    EXPECT_EQ(c.sga.rows, "v2t");
    EXPECT_THAT(set(c, R"(alignment.sga={"weight": 3})"), IsEmpty());
    EXPECT_EQ(c.sga.weight, 3.0);
}

TEST(Fields, SetReportsItsFaults) {
    Config c;
    EXPECT_THAT(set(c, "alignment.sga.blokcs=1"),
                ElementsAre("alignment.sga.blokcs: unknown field (did you mean \"blocks\"?)"));
    EXPECT_THAT(set(c, "alingment.sga=null"),
                ElementsAre("alingment: unknown field (did you mean \"alignment\"?)"));
    EXPECT_THAT(set(c, "rank"), ElementsAre("\"rank\": expected path=value, such as lora.rank=16"));
    EXPECT_THAT(set(c, "=1"), ElementsAre("\"=1\": expected path=value, such as lora.rank=16"));
    EXPECT_THAT(set(c, "rank="), ElementsAre("rank: expected an integer, got \"\""));
    EXPECT_THAT(set(c, "rank.x=1"), ElementsAre("rank: expected an integer, got {\"x\":1}"));
    EXPECT_THAT(set(c, "alignment..rows=1"), ElementsAre("alignment.: unknown field"));
    EXPECT_THAT(set(c, "betas=[1,"),
                ElementsAre(::testing::HasSubstr("betas:1:4: malformed JSON")));
}

TEST(Fields, SchemaSaysWhatIsAccepted) {
    Config c;
    c.has_sga = false;
    const json schema = c.fields().schema();
    EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    EXPECT_EQ(schema["additionalProperties"], false);
    const json& fields = schema["properties"];
    EXPECT_EQ(fields["rank"], (json{{"type", "integer"},
                                    {"minimum", 1},
                                    {"maximum", 4096},
                                    {"default", 16},
                                    {"description", "Rank."}}));
    EXPECT_EQ(fields["rate"]["exclusiveMinimum"], 0);
    EXPECT_EQ(fields["budget"]["anyOf"],
              json::parse(R"([{"type": "integer", "minimum": 0}, {"const": "auto"}])"));
    EXPECT_EQ(fields["budget"]["default"], "auto");
    EXPECT_EQ(
        fields["dtype"]["anyOf"],
        json::parse(R"([{"type": "string", "enum": ["float32", "bfloat16"]}, {"type": "null"}])"));
    EXPECT_EQ(fields["betas"]["items"],
              json::parse(R"({"type": "number", "minimum": 0, "maximum": 1})"));
    EXPECT_EQ(fields["betas"]["maxItems"], 2);
    const json& sga = fields["alignment"]["properties"]["sga"];
    EXPECT_EQ(sga["type"], json::parse(R"(["object", "null"])"));
    EXPECT_EQ(sga["additionalProperties"], false);
    EXPECT_TRUE(sga["default"].is_null());
    EXPECT_FALSE(sga.contains("$schema"));
}

TEST(Fields, ReferenceHasARowPerField) {
    Config c;
    const std::string text = c.fields().reference();
    for (const char* row :
         {"| `rank` | integer, 1..4096 | `16` | Rank. |\n",
          "| `rate` | number, above 0, at most 1 | `0.0001` | Learning \\| rate. |\n",
          "| `budget` | integer, at least 0 or `\"auto\"` | `\"auto\"` | Bytes. |\n",
          "| `dtype` | string: `\"float32\"`, `\"bfloat16\"` or `null` | `null` | Type. |\n",
          "| `betas` | 2 of number, 0..1 | `[0.9,0.99]` | Betas. |\n",
          "| `alignment.sga` | section or `null` |  | Grounding. |\n",
          "| `alignment.sga.blocks` | list of integer, at least 0 | `[7,9]` | Blocks. |\n"}) {
        EXPECT_THAT(text, ::testing::HasSubstr(row));
    }
}

TEST(Fields, TheSameNameTwiceIsAProgrammersError) {
    std::int64_t a = 0;
    FieldTable table;
    table.add("a", a, "");
    EXPECT_ANY_THROW(table.add("a", a, ""));
    EXPECT_ANY_THROW(table.add_section("a", FieldTable(), ""));
}

TEST(DidYouMean, SuggestsOnlyWhatIsNear) {
    const std::vector<std::string> words{"blocks", "weight", "rows", "a"};
    EXPECT_EQ(did_you_mean("blokcs", words), "blocks");
    EXPECT_EQ(did_you_mean("wieght", words), "weight");
    EXPECT_EQ(did_you_mean("row", words), "rows");
    EXPECT_EQ(did_you_mean("b", words), std::nullopt);
    EXPECT_EQ(did_you_mean("", words), std::nullopt);
    EXPECT_EQ(did_you_mean("colour", words), std::nullopt);
    EXPECT_EQ(did_you_mean(std::string(100000, 'b'), words), std::nullopt);
}

}  // namespace
}  // namespace matrix
