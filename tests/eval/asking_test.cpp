#include "matrix/eval/asking.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "eval/json_reading.h"
#include "matrix/media/video.h"
#include "support/temp_directory.h"

namespace matrix::eval {
namespace {

/// Flags frames 0, 5 and 99 as emergences, whatever it is asked.
class OneAnswer final : public Transport {
public:
    HttpReply post(const std::string& body) override {
        sent.push_back(Json::parse(body));
        const Json content = {{"emergence", "no"},
                              {"emergence_frames", {0, 5, 99}},
                              {"emergence_reason", "a second cup"},
                              {"disappearance", "yes"},
                              {"disappearance_frames", Json::array()},
                              {"disappearance_reason", ""}};
        const Json message = {{"content", content.dump()}};
        return {200,
                Json{{"choices", Json::array({Json{{"message", message}}})}}.dump(),
                "",
                false,
                {}};
    }
    std::vector<Json> sent;
};

class AskingTest : public ::testing::Test {
protected:
    void SetUp() override {
        asking_.layout = {directory_.path()};
        asking_.selection = {{"m"}, {"easy"}};
        asking_.vlm = "v";
        const Json cup = {{"class", "cup"}, {"appearance", "a cup"}};
        write_json(asking_.layout.data("easy") / "meta.json",
                   Json::array({Json{{"video_text_prompt", "A cup falls."},
                                     {"objects", Json::array({cup})}}}));
        auto transport = std::make_unique<OneAnswer>();
        transport_ = transport.get();
        client_ = std::make_unique<VlmClient>(std::move(transport),
                                              ReplyCache(directory_ / "cache"), AskingLimits{});
        asking_.client = client_.get();
    }
    void draw(std::int64_t frames) {
        const std::filesystem::path path = asking_.layout.overlay("m", "easy", "000");
        std::filesystem::create_directories(path.parent_path());
        media::write_video(path, at::full({frames, 64, 64, 3}, 90, at::kByte), 8.0);
    }
    [[nodiscard]] Json result() const {
        return read_json(asking_.layout.emergence("m", "easy")).at(0);
    }
    void put_result(const Json& entry) const {
        write_json(asking_.layout.emergence("m", "easy"), Json::array({entry}));
    }

    test::TempDirectory directory_;
    Asking asking_;
    OneAnswer* transport_ = nullptr;
    std::unique_ptr<VlmClient> client_;
};

TEST_F(AskingTest, OnlyListedFramesThatWereSampledCount) {
    draw(8);
    Plan plan = plan_emergence(asking_);
    EXPECT_EQ(plan.cost().requests, 1);
    EXPECT_EQ(plan.cost().pictures, 3);
    EXPECT_EQ(carry_out(std::move(plan), 2).done, 1u);
    const Json entry = result();
    EXPECT_EQ(entry.at("frames_analyzed"), 3);
    const Json& frames = entry.at("hallucination_results");
    ASSERT_EQ(frames.size(), 2u);
    EXPECT_EQ(frames[0], (Json{{"frame_idx", 5},
                               {"emergence", "yes"},
                               {"disappearance", "no"},
                               {"emergence_reason", "a second cup"},
                               {"disappearance_reason", ""}}));
    EXPECT_EQ(frames[1].at("emergence"), "no");
    // As in the public code: without lambda, the last two rounded to whole numbers.
    EXPECT_EQ(entry.at("emergence_score"), 0.5);
    EXPECT_EQ(entry.at("disappearance_score"), 1);
    EXPECT_EQ(entry.at("hallucination_score"), 1);
    EXPECT_EQ(plan_emergence(asking_).kept, 1u);
}

TEST_F(AskingTest, OneFrameIsNothingToCompare) {
    draw(1);
    EXPECT_EQ(plan_emergence(asking_).cost().requests, 0);
    EXPECT_EQ(carry_out(plan_emergence(asking_), 1).done, 1u);
    EXPECT_TRUE(transport_->sent.empty());
    EXPECT_TRUE(result().at("hallucination_results").empty());
}

TEST_F(AskingTest, EntriesFromElsewhereAreKeptUnlessTheyAreOfAnotherPrompt) {
    draw(8);
    put_result({{"video_id", "000"}, {"prompt", "A cup falls."}});
    EXPECT_EQ(plan_emergence(asking_).kept, 1u);
    put_result({{"video_id", "000"}, {"prompt", "Another."}});
    EXPECT_EQ(plan_emergence(asking_).tasks.size(), 1u);
}

TEST_F(AskingTest, AnEntryIsMadeAgainForAnotherModelSeedOrVideo) {
    draw(8);
    (void)carry_out(plan_emergence(asking_), 1);
    Asking other = asking_;
    other.vlm = "w";
    EXPECT_EQ(plan_emergence(other).tasks.size(), 1u);
    other = asking_;
    other.seed = 7;
    EXPECT_EQ(plan_emergence(other).tasks.size(), 1u);
    draw(9);
    EXPECT_EQ(plan_emergence(asking_).tasks.size(), 1u);
    std::filesystem::remove(asking_.layout.overlay("m", "easy", "000"));
    EXPECT_EQ(plan_emergence(asking_).kept, 1u);  // its evidence is gone, the result is not
}

TEST_F(AskingTest, WithoutAnOverlayTheVideoIsLeftOut) {
    std::filesystem::create_directories(asking_.layout.results("m", "easy"));
    const Plan plan = plan_emergence(asking_);
    ASSERT_EQ(plan.left_out.size(), 1u);
    EXPECT_NE(plan.left_out[0].line().find("m/easy/000: no overlay"), std::string::npos);
}

}  // namespace
}  // namespace matrix::eval
