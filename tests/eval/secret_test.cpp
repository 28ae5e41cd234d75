#include "eval/secret.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace matrix::eval {
namespace {

using Json = nlohmann::json;

std::string struck(std::string_view text) {
    return without_secret(text, "sk-ab/cd+01");
}

TEST(Secret, IsStruckPlainAndEscaped) {
    EXPECT_EQ(struck("a sk-ab/cd+01 b sk-ab/cd+01"), "a *** b ***");
    EXPECT_EQ(struck(R"("key sk-ab\/cd+01!")"), R"("key ***!")");
    EXPECT_EQ(struck(R"("\u0073k\u002Dab\u002fcd\u002b01")"), R"("***")");
    EXPECT_EQ(struck(R"("{\"reason\": \"sk-ab\\\/cd\\u002b01\"}")"), R"("{\"reason\": \"***\"}")");
}

TEST(Secret, LeavesOtherTextAsItIs) {
    for (const char* text : {"", "sk-ab/cd+0", R"(sk-ab\u0041cd+01)", R"(\\\n \u00)", R"(sk\)"}) {
        EXPECT_EQ(struck(text), text);
    }
    EXPECT_EQ(without_secret("none and none", "none"), "none and none");
}

TEST(Secret, WithQuotesAndBackslashesIsStruckFromJsonThatStaysJson) {
    for (const std::string secret :
         {"\"sk-0123\"456", "sk\\0123456\\", "\\sk-0123456", "u0073\\u0041bc", "\\\\\\\\sk-0"}) {
        Json inner = {{"reason", "it was " + secret + "."}};
        const std::string text = Json{{"content", inner.dump()}, {secret, 1}}.dump();
        const std::string result = without_secret(text, secret);
        const Json outer = Json::parse(result, nullptr, false);
        ASSERT_TRUE(outer.is_object()) << result;
        EXPECT_EQ(result.find("0123456"), std::string::npos);
        inner = Json::parse(outer.at("content").get<std::string>(), nullptr, false);
        ASSERT_TRUE(inner.is_object()) << result;
        EXPECT_EQ(inner.at("reason").get<std::string>().find(secret), std::string::npos);
    }
}

}  // namespace
}  // namespace matrix::eval
