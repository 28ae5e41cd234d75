#include "lora/name_pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lora/adapters.h"
#include "matrix/core/files.h"
#include "support/errors.h"

namespace matrix::lora {
namespace {

TEST(NamePattern, AgreesWithPython) {
    const nlohmann::json fixture =
        nlohmann::json::parse(read_text_file(testing::fixture("patterns.json")));
    const auto names = fixture["names"].get<std::vector<std::string>>();
    ASSERT_FALSE(fixture["patterns"].empty());
    for (const auto& [pattern, matching] : fixture["patterns"].items()) {
        SCOPED_TRACE(pattern);
        ASSERT_NO_THROW(check_name_pattern(pattern, "f"));
        for (const std::string& name : names) {
            const bool expected =
                std::find(matching.begin(), matching.end(), name) != matching.end();
            EXPECT_EQ(matches_name_end(pattern, name), expected) << name;
        }
    }
}

// A backtracking matcher takes longer than anybody waits for each of these.
TEST(NamePattern, TakesPolynomialTime) {
    const std::string name(250, 'a');
    EXPECT_FALSE(matches_name_end("(a*)*(a*)*(a*)*(a*)*b", name));
    EXPECT_FALSE(matches_name_end("(a|aa|a*)*b", name));
    EXPECT_TRUE(matches_name_end("((((a{0,100000}){0,1000}){0,1000}){0,1000}){0,1000}", name));
}

TEST(NamePattern, RefusesWhatItDoesNotUnderstand) {
    const auto refused = [](const std::string& pattern, std::string_view part) {
        SCOPED_TRACE(pattern);
        test::expect_error([&] { check_name_pattern(pattern, "file: rank_pattern"); },
                           {"file: rank_pattern", part});
    };
    refused("(", "a ( without its )");
    refused("to_q)", "unmatched )");
    refused("*", "nothing to repeat");
    refused("a**", "a repeat of a repeat");
    refused("a*+", "a repeat of a repeat");
    refused("a{", "a { that begins no");
    refused("a{2,1}", "a { that begins no");
    refused("a{99999999999999999999}", "repeats more than");
    refused("[a", "ends too early");
    refused("[z-a]", "does not ascend");
    refused("\\", "ends too early");
    refused("(a)\\1", "\\1 is not supported");
    refused("\\bto_q", "\\b is not supported");
    refused("(?!to_q)", "(? other than (?:");
    refused(std::string(1001, 'a'), "longer than 1000");
    refused(std::string(60, '(') + std::string(60, ')'), "nested deeper than 50");
}

}  // namespace
}  // namespace matrix::lora
