#include "matrix/data_source/roles.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "matrix/text/phrases.h"

namespace matrix::data_source {
namespace {

// "1 man | lifts | 2 box; ...", and holds that every phrase is found in the prompt.
std::string proposed(const std::string& prompt) {
    const std::string stripped = text::strip_id_markers(prompt);
    std::string out;
    const auto show = [&](const Phrase& phrase) {
        (void)text::find_phrase(stripped, phrase.text, phrase.start);
        return (phrase.id == 0 ? "" : std::to_string(phrase.id) + " ") + phrase.text +
               (phrase.start ? "@" + std::to_string(*phrase.start) : "");
    };
    for (const Interaction& found : propose_roles(prompt)) {
        EXPECT_TRUE(found.proposed);
        out += (out.empty() ? "" : "; ") + show(found.subject) + " | " + show(found.verb);
        out += found.object ? " | " + show(*found.object) : "";
    }
    return out;
}

TEST(Roles, VerbBetweenTwoMarkers) {
    EXPECT_EQ(proposed("A <id1> man lifts a <id2> box."), "1 man | lifts | 2 box");
    EXPECT_EQ(proposed("the <id1> young man picks up the heavy <id2> wooden box on the table"),
              "1 young man | picks up | 2 wooden box");
    EXPECT_EQ(proposed("A <id1> woman is gently talking to an old <id2> dog"),
              "1 woman | is gently talking to | 2 dog");
    EXPECT_EQ(proposed("a <id1> person passes a ball to another <id2> person"),
              "1 person@2 | passes | 2 person@34");
    EXPECT_EQ(proposed("A <id1> man in a red striped shirt throws the <id2> frisbee"),
              "1 man | throws | 2 frisbee");
    EXPECT_EQ(proposed("Two <id1> men carry a <id2> sofa"), "1 men | carry | 2 sofa");
    EXPECT_EQ(proposed("A <id1> chef flambes the <id2> steak"), "1 chef | flambes | 2 steak");
    EXPECT_EQ(proposed("A <id1> man, wearing a hat, feeds a <id2> horse"),
              "1 man | feeds | 2 horse");
    EXPECT_EQ(proposed("A <id1> boy begins to push a <id2> cart."),
              "1 boy | begins to push | 2 cart");
}

TEST(Roles, PassiveTurnsTheRolesRound) {
    EXPECT_EQ(proposed("A <id2> box is lifted by a <id1> man"), "1 man | is lifted by | 2 box");
}

TEST(Roles, AndJoins) {
    EXPECT_EQ(proposed("A <id1> man and a <id2> woman lift a <id3> table"),
              "1 man | lift | 3 table; 2 woman | lift | 3 table");
    EXPECT_EQ(proposed("A <id1> man lifts a <id2> box and hands it to a <id3> woman"),
              "1 man | lifts | 2 box; 1 man | hands | 3 woman");
    EXPECT_EQ(proposed("A <id1> man holds a <id2> cup and a <id3> plate"),
              "1 man | holds | 2 cup; 1 man | holds | 3 plate");
    EXPECT_EQ(proposed("A <id1> man lifts a <id2> box while a <id3> dog watches."),
              "1 man | lifts | 2 box; 3 dog | watches");
}

TEST(Roles, SentencesAndCommasPart) {
    EXPECT_EQ(proposed("A <id1> man sits. A <id2> dog runs towards the <id3> ball."),
              "1 man | sits; 2 dog | runs towards | 3 ball");
    EXPECT_EQ(proposed("A <id1> man walks, a <id2> dog sleeps"), "1 man | walks");
}

TEST(Roles, NothingIsForced) {
    for (const char* prompt :
         {"", "<id1>", "A man lifts a box.", "A <id1> man and a <id2> woman.", "<id1> <id2> <id3>",
          "A <id1> man on a <id2> bench", "A <id7> man lifts a <id8> box",
          "A <id1> man. Lifts. <id2>", "A <id1> man lifts the <id1> man", "<id",
          "a <id1> b <id99999999999> c"}) {
        EXPECT_EQ(proposed(prompt), "") << prompt;
    }
}

TEST(Roles, StartCountsCodePointsWithoutMarkers) {
    EXPECT_EQ(proposed("Café: a <id1> man  hugs a <id2> man"), "1 man@8 | hugs | 2 man@19");
}

TEST(Roles, ClassNamesBecomeMarkers) {
    EXPECT_EQ(mark_instances("A Man lifts a box.", {{1, "man"}, {2, "box"}}),
              "A <id1> Man lifts a <id2> box.");
    EXPECT_EQ(mark_instances("A dog chases a dog.", {{1, "dog"}, {3, "dog"}}),
              "A <id1> dog chases a <id3> dog.");
    EXPECT_EQ(mark_instances("A dog chases a dog.", {{1, "dog"}}), "A dog chases a dog.");
    EXPECT_EQ(mark_instances("A <id2> dog.", {{1, "dog"}}), "A <id2> dog.");
    EXPECT_EQ(mark_instances("A woman", {{1, "man"}, {2, ""}}), "A woman");
}

TEST(Roles, RowsWithRolesAreLeftAlone) {
    using nlohmann::json;
    json row = {{"prompt", "A man lifts a box."}, {"interactions", nullptr}};
    EXPECT_EQ(propose_into(row, {1, 2}, {{1, "man"}, {2, "box"}}), 1U);
    EXPECT_EQ(row["prompt"], "A <id1> man lifts a <id2> box.");
    EXPECT_EQ(row["interactions"],
              json::parse(R"([{"subject": {"phrase": "man", "id": 1}, "verb": {"phrase": "lifts"},
                               "object": {"phrase": "box", "id": 2}, "proposed": true}])"));
    const json before = row;
    row["prompt"] = "A <id1> man drops a <id2> box.";
    EXPECT_EQ(propose_into(row, {1, 2}, {}), 0U);
    EXPECT_EQ(row["interactions"], before["interactions"]);

    json without = {{"prompt", "A <id1> man lifts a <id3> box."}};
    EXPECT_EQ(propose_into(without, {1, 2}, {}), 0U);
    EXPECT_FALSE(without.contains("interactions"));
}

}  // namespace
}  // namespace matrix::data_source
