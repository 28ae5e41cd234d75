#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "matrix/core/fields.h"
#include "support/errors.h"

namespace matrix {
namespace {

using test::expect_error;

TEST(ParseJson, ReadsWhatIsWellFormed) {
    EXPECT_EQ(parse_json(R"({"a": [1, {"a": 2}], "b": {"a": 3}})", "x")["b"]["a"], 3);
    EXPECT_EQ(parse_json("3", "x"), 3);
}

TEST(ParseJson, NamesLineAndColumn) {
    expect_error([] { (void)parse_json("{\n  \"a\": 1,\n  \"b\": ]\n}", "run.json"); },
                 {"run.json:3:8: malformed JSON", "unexpected ']'"});
    expect_error([] { (void)parse_json("", "run.json"); }, {"run.json:1:1: malformed JSON"});
    expect_error([] { (void)parse_json("{} x", "run.json"); }, {"run.json:1:4: malformed JSON"});
    expect_error([] { (void)parse_json("\"a\xe9.\"", "run.json"); },
                 {"malformed JSON", "UTF-8", "a\xef\xbf\xbd"});  // what is quoted is made UTF-8
    expect_error([] { (void)parse_json("[1e999]", "run.json"); }, {"run.json:1:", "malformed"});
    expect_error([] { (void)parse_json("\"\xff\"", "run.json"); }, {"run.json:1:2", "malformed"});
}

TEST(ParseJson, RefusesDuplicateKeysAtAnyDepth) {
    EXPECT_EQ(expect_error([] { (void)parse_json("{\n \"a\": {\"x\": 1, \"x\": 2}}", "f"); }),
              "f:2:18: the key \"x\" stands twice");
    // The same key in siblings is none.
    EXPECT_NO_THROW((void)parse_json(R"([{"x": 1}, {"x": 2}])", "f"));
}

TEST(ParseJson, LimitsNesting) {
    const auto nested = [](std::size_t depth) {
        return std::string(depth, '[') + std::string(depth, ']');
    };
    EXPECT_NO_THROW((void)parse_json(nested(64), "f"));
    EXPECT_EQ(expect_error([&] { (void)parse_json(nested(65), "f"); }),
              "f:1:65: nested deeper than 64 levels");
    expect_error([&] { (void)parse_json(std::string(10'000'000, '['), "f"); }, {"f:1:65"});
    std::string objects;
    for (int i = 0; i < 100000; ++i) {
        objects += "{\"a\":";
    }
    expect_error([&] { (void)parse_json(objects, "f"); }, {"nested deeper"});
}

TEST(ParseJson, DoesNotStopAtANul) {
    expect_error([] { (void)parse_json(std::string("{}\0garbage", 10), "f"); }, {"f:1:3", "NUL"});
}

TEST(ParseJson, LongTokensAreCutInMessages) {
    const std::string text = "[\"" + std::string(1'000'000, 'x');
    const std::string message = expect_error([&] { (void)parse_json(text, "f"); });
    EXPECT_LT(message.size(), 300u);
}

}  // namespace
}  // namespace matrix
