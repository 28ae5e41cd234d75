#include "eval/replies.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace matrix::eval {
namespace {

Json ten_answers() {
    Json list = Json::array();
    for (int id = 1; id <= 10; ++id) {
        list.push_back({{"question_id", id},
                        {"answer", id % 2 == 0 ? "yes" : "no (visually implausible)"},
                        {"frame_index", id == 1 ? Json() : Json(5)}});
    }
    return list;
}

/// `change` breaks ten good answers.
template <typename Change>
void expect_refused(Change&& change, std::string_view reason) {
    Json list = ten_answers();
    change(list);
    test::expect_error([&] { (void)read_answers({{"answers", list}}); }, {reason});
}

TEST(Answers, AreReadInTheOrderOfTheirNumbers) {
    Json list = ten_answers();
    std::swap(list[0], list[9]);
    for (const Json& content : {Json{{"answers", list}}, list}) {
        const auto answers = read_answers(content);
        EXPECT_EQ(answers[0].answer, "no (visually implausible)");
        EXPECT_FALSE(answers[0].frame);
        EXPECT_EQ(answers[9].answer, "yes");
        EXPECT_EQ(answers[9].frame, 5);
    }
}

TEST(Answers, AreRefusedWhereTheyAreNotTen) {
    expect_refused([](Json& list) { list.erase(3); }, "9 answers instead of 10");
    expect_refused([](Json& list) { list.push_back(list[0]); }, "11 answers instead of 10");
    expect_refused([](Json& list) { list[3]["question_id"] = 5; },
                   "question_id 5 is answered twice");
    expect_refused([](Json& list) { list[3]["question_id"] = 0; }, "question_id 0 is not one of");
    expect_refused([](Json& list) { list[3]["question_id"] = 11; }, "question_id 11 is not one of");
    expect_refused([](Json& list) { list[3]["question_id"] = "4"; }, "no whole number");
    expect_refused([](Json& list) { list[3]["answer"] = "Yes"; }, "\"Yes\" is no answer");
    expect_refused([](Json& list) { list[3]["answer"] = ""; }, "is no answer");
    expect_refused([](Json& list) { list[3]["frame_index"] = "5"; }, "no whole number");
    expect_refused([](Json& list) { list[3].erase("frame_index"); }, "no frame_index");
    expect_refused([](Json& list) { list = "yes"; }, "`answers` should be an array");
}

TEST(FlaggedFrames, NeedNumbersAndYesOrNo) {
    const Json good = {{"emergence", "yes"},
                       {"emergence_frames", {5, 10}},
                       {"emergence_reason", "cup"},
                       {"disappearance", "no"},
                       {"disappearance_frames", Json::array()},
                       {"disappearance_reason", ""}};
    EXPECT_EQ(read_flagged_frames(good).emergence, (std::vector<std::int64_t>{5, 10}));
    Json text = good;
    text["emergence_frames"][1] = "10";
    test::expect_error([&] { (void)read_flagged_frames(text); }, {"no whole number"});
    Json word = good;
    word["disappearance"] = "maybe";
    test::expect_error([&] { (void)read_flagged_frames(word); }, {"neither yes nor no"});
    Json missing = good;
    missing.erase("disappearance_frames");
    test::expect_error([&] { (void)read_flagged_frames(missing); }, {"disappearance_frames"});
}

TEST(Questions, AreTenForEachKeyInteraction) {
    const Json item = {{"key_interaction", "a lifts b"},
                       {"questions", std::vector<std::string>(10, "Is it?")}};
    EXPECT_EQ(read_questions({{"items", {item, item}}}).size(), 2u);
    test::expect_error(
        [] {
            (void)read_questions({{"items", Json::array()}});
        },
        {"no key interaction"});
    Json nine = item;
    nine["questions"].erase(0);
    test::expect_error(
        [&] {
            (void)read_questions({{"items", {item, nine}}});
        },
        {"9 questions about \"a lifts b\" instead of 10"});
    Json empty = item;
    empty["questions"][2] = "";
    test::expect_error([&] { (void)read_questions({{"items", {empty, item}}}); }, {"is no text"});
}

TEST(CropChoice, IsOneOfTheCropsOrNone) {
    const auto choice = [](Json index, Json confidence) {
        return Json{{"index", index}, {"confidence", confidence}, {"reason", "r"}};
    };
    EXPECT_EQ(read_crop_choice(choice(2, 0.5), 3).index, 2);
    EXPECT_EQ(read_crop_choice(choice(-1, 0), 3).index, -1);
    test::expect_error([&] { (void)read_crop_choice(choice(3, 0.5), 3); }, {"index 3 of 3"});
    test::expect_error([&] { (void)read_crop_choice(choice(-2, 0.5), 3); }, {"index -2"});
    test::expect_error([&] { (void)read_crop_choice(choice("1", 0.5), 3); }, {"no whole number"});
    test::expect_error([&] { (void)read_crop_choice(choice(UINT64_MAX, 0.5), 3); }, {"too large"});
    test::expect_error([&] { (void)read_crop_choice(choice(1, 1.5), 3); }, {"confidence"});
    test::expect_error([&] { (void)read_crop_choice(choice(1, "high"), 3); }, {"confidence"});
}

TEST(Content, IsTheModelsMessage) {
    const auto body = [](const Json& choice) { return Json{{"choices", {choice, choice}}}.dump(); };
    const Json good = {{"message", {{"content", R"({"x": 1})"}}}, {"finish_reason", "stop"}};
    EXPECT_EQ(content_of(body(good)).at("x"), 1);
    Json cut = good;
    cut["finish_reason"] = "length";
    test::expect_error([&] { (void)content_of(body(cut)); }, {"cut off"});
    Json refused = good;
    refused["message"]["refusal"] = "No.";
    test::expect_error([&] { (void)content_of(body(refused)); }, {"refuses"});
    Json prose = good;
    prose["message"]["content"] = "Sure! {}";
    test::expect_error([&] { (void)content_of(body(prose)); }, {"malformed JSON"});
    test::expect_error([] { (void)content_of("<html>"); }, {"malformed JSON"});
    test::expect_error([] { (void)content_of(R"({"choices": []})"); }, {"no message"});
    test::expect_error([] { (void)content_of(R"({"object": "error"})"); }, {"`choices`"});
}

TEST(ServerMessage, IsOneShortLine) {
    EXPECT_EQ(server_message(R"({"error": {"message": "a\nb"}})"), "a b");
    EXPECT_EQ(server_message(R"({"error": "plain"})"), "plain");
    EXPECT_EQ(server_message("<html>"), "");
    EXPECT_LE(server_message(Json{{"error", {{"message", std::string(5000, 'x')}}}}.dump()).size(),
              210u);
    // Cut between characters, which are of two bytes here.
    for (const std::string start : {"", "x"}) {
        std::string text = start;
        for (int i = 0; i < 150; ++i) {
            text += "\u00e9";
        }
        const Json error = {{"error", {{"message", text}}}};
        EXPECT_NO_THROW((void)Json(server_message(error.dump())).dump());
    }
}

}  // namespace
}  // namespace matrix::eval
