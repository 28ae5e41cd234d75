#include "matrix/train/config_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/errors.h"

namespace matrix {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using train::config_changes;
using train::unresumable_changes;

nlohmann::json config() {
    return nlohmann::json::parse(R"({
        "data": {"id_map": true, "path": "data"},
        "lora": {"rank": 8, "alpha": 4, "rslora": false, "targets": ["to_q", "to_k"],
                 "blocks": [7, 11], "input_projection": "full"},
        "alignment": {"sga": {"blocks": [7], "weight": 0.01}, "spa": null, "head": "affine"},
        "train": {"steps": 1000}, "output": "runs/a"})");
}

/// The lines when the field at `pointer` has another value.
std::vector<std::string> refused(const std::string& pointer, const nlohmann::json& value,
                                 const nlohmann::json& base = config()) {
    nlohmann::json now = base;
    now[nlohmann::json::json_pointer(pointer)] = value;
    return unresumable_changes(base.dump(), now.dump());
}

TEST(ConfigChanges, NamesEveryChangedField) {
    nlohmann::json now = config();
    now["train"]["steps"] = 2000;
    now["train"]["seed"] = 1;
    now["alignment"]["sga"] = nullptr;
    now["lora"]["targets"] = {"to_k", "to_q"};
    now.erase("output");
    EXPECT_THAT(
        config_changes(config().dump(), now.dump()),
        ElementsAre("alignment.sga: {\"blocks\":[7],\"weight\":0.01} before, null now",
                    "lora.targets: [\"to_q\",\"to_k\"] before, [\"to_k\",\"to_q\"] now",
                    "output: \"runs/a\" before, not there now",
                    "train.seed: not there before, 1 now", "train.steps: 1000 before, 2000 now"));
}

TEST(ConfigChanges, ComparesNumbersByValue) {
    EXPECT_THAT(
        config_changes(R"({"a": 1, "b": {"c": [1, 2]}})", R"({"b": {"c": [1.0, 2]}, "a": 1.0})"),
        IsEmpty());
    EXPECT_THAT(config_changes(R"({"a": 1})", R"({"a": "1"})"),
                ElementsAre("a: 1 before, \"1\" now"));
    EXPECT_THAT(config_changes(R"({"a": {"b": 1}})", R"({"a": 1})"),
                ElementsAre("a: {\"b\":1} before, 1 now"));
}

TEST(ConfigChanges, AnUnknownConfigurationHasNotChanged) {
    EXPECT_THAT(config_changes("", config().dump()), IsEmpty());
    EXPECT_THAT(unresumable_changes("", config().dump()), IsEmpty());
    test::expect_error([] { (void)config_changes("{", "{}"); }, {"a run's configuration:1:2"});
}

TEST(ConfigChanges, RefusesWhatTheTensorsDependOn) {
    for (const auto& [pointer, value] : std::vector<std::pair<std::string, nlohmann::json>>{
             {"/lora/rank", 4},
             {"/lora/alpha", 8.5},
             {"/lora/rslora", true},
             {"/lora/targets", {"to_q"}},
             {"/lora/blocks", {7, 11, 12}},
             {"/lora/input_projection", "lora"},
             {"/data/id_map", false},
             {"/alignment/head", "conv"},
             {"/alignment/sga", nullptr},
             {"/alignment/spa", {{"blocks", {9}}}}}) {
        std::string path = pointer.substr(1);
        path[path.find('/')] = '.';
        EXPECT_THAT(refused(pointer, value),
                    ElementsAre(AllOf(StartsWith(path + ": "),
                                      HasSubstr(" before, " + value.dump() + " now; "),
                                      HasSubstr("or start a new run in another `output`"))));
    }
}

TEST(ConfigChanges, RefusesSeveralAtOnce) {
    nlohmann::json now = config();
    now["lora"]["rank"] = 4;
    now["data"]["id_map"] = false;
    EXPECT_EQ(unresumable_changes(config().dump(), now.dump()).size(), 2u);
}

TEST(ConfigChanges, GoesOnWithEverythingElse) {
    EXPECT_THAT(unresumable_changes(config().dump(), config().dump()), IsEmpty());
    EXPECT_THAT(refused("/train/steps", 9), IsEmpty());
    EXPECT_THAT(refused("/data/path", "other"), IsEmpty());
    EXPECT_THAT(refused("/output", "runs/b"), IsEmpty());
    EXPECT_THAT(refused("/alignment/sga/weight", 0.5), IsEmpty());
    EXPECT_THAT(refused("/lora/alpha", 4.0), IsEmpty());
    EXPECT_THAT(refused("/lora/targets", {"to_k", "to_q"}), IsEmpty()) << "order says nothing";
}

TEST(ConfigChanges, AFieldWithoutTensorsMayChange) {
    nlohmann::json projection_alone = config();
    projection_alone["lora"]["blocks"] = nlohmann::json::array();
    EXPECT_THAT(refused("/lora/rank", 4, projection_alone), IsEmpty());
    projection_alone["lora"]["input_projection"] = "lora";
    EXPECT_EQ(refused("/lora/rank", 4, projection_alone).size(), 1u);
    nlohmann::json no_terms = config();
    no_terms["alignment"]["sga"] = nullptr;
    EXPECT_THAT(refused("/alignment/head", "conv", no_terms), IsEmpty());
}

}  // namespace
}  // namespace matrix
