#include "matrix/alignment/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace matrix::alignment {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> read(AlignmentConfig& config, const std::string& text) {
    std::vector<std::string> faults;
    fields(config).read(nlohmann::json::parse(text), faults, "alignment");
    return faults;
}

TEST(AlignmentConfig, DefaultsAreThePapers) {
    AlignmentConfig config;
    const nlohmann::json json = fields(config).write();
    EXPECT_EQ(json.at("sga").at("blocks"), nlohmann::json({7, 11}));
    EXPECT_EQ(json.at("spa").at("blocks"), nlohmann::json({12}));
    EXPECT_EQ(json.at("sga").at("weight"), 0.01);
    EXPECT_EQ(json.at("spa").at("weight"), 0.005);
    EXPECT_EQ(json.at("head"), "residual");
    EXPECT_THAT(check(config, 42), IsEmpty());
}

TEST(AlignmentConfig, NullSwitchesATermOff) {
    AlignmentConfig config;
    EXPECT_THAT(read(config, R"({"sga": null, "spa": {"blocks": [1, 3]}})"), IsEmpty());
    EXPECT_FALSE(config.sga.has_value());
    ASSERT_TRUE(config.spa.has_value());
    EXPECT_THAT(config.spa->blocks, ElementsAre(1, 3));
    const nlohmann::json json = fields(config).write();
    EXPECT_TRUE(json.at("sga").is_null());
    EXPECT_THAT(read(config, R"({"sga": {"rows": "t2v"}})"), IsEmpty());
    ASSERT_TRUE(config.sga.has_value());
    EXPECT_EQ(config.sga->rows, "t2v");
}

TEST(AlignmentConfig, BadValuesAreNamed) {
    AlignmentConfig config;
    EXPECT_THAT(read(config, R"({"readout": "logit"})"),
                ElementsAre(HasSubstr("alignment.readout")));
    EXPECT_THAT(read(config, R"({"sga": {"weight": -1}})"),
                ElementsAre(HasSubstr("alignment.sga.weight")));
    EXPECT_THAT(read(config, R"({"spa": {"blocks": [-1]}})"),
                ElementsAre(HasSubstr("alignment.spa.blocks")));
    EXPECT_THAT(read(config, R"({"bse": 1})"), ElementsAre(HasSubstr("bce")));
}

TEST(AlignmentConfig, FaultsThatNoFieldShows) {
    AlignmentConfig config;
    config.readout = "probabilities";
    config.center = "text";
    config.sga->blocks = {7, 30, 7};
    config.spa->blocks = {};
    EXPECT_THAT(check(config, 30),
                ElementsAre(HasSubstr("alignment.center"),
                            HasSubstr("alignment.sga.blocks: the model has no block 30"),
                            HasSubstr("alignment.sga.blocks: block 7 is named twice"),
                            HasSubstr("alignment.spa.blocks: no block")));
    config.sga.reset();
    config.spa.reset();
    config.center = "none";
    EXPECT_THAT(check(config, 30), IsEmpty());
}

TEST(AlignmentConfig, FreeDecoderIsWarnedOf) {
    AlignmentConfig config;
    EXPECT_THAT(warnings(config), IsEmpty());
    config.head = "conv";
    EXPECT_THAT(warnings(config), ElementsAre(HasSubstr("alignment.head")));
}

TEST(AlignmentConfig, CentringThatNothingReadsIsWarnedOf) {
    AlignmentConfig config;
    config.center = "text";
    EXPECT_THAT(warnings(config), IsEmpty());
    config.sga->rows = "t2v";
    EXPECT_THAT(warnings(config), ElementsAre(HasSubstr("alignment.center")));
    config.sga->rows = "v2t";
    config.sga.reset();
    EXPECT_THAT(warnings(config), ElementsAre(HasSubstr("alignment.center")));
}

}  // namespace
}  // namespace matrix::alignment
