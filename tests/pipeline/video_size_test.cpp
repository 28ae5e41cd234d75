#include "matrix/pipeline/video_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace matrix::pipeline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

SizeRules rules_of_10() {
    SizeRules rules;
    rules.transformer.use_learned_positional_embeddings = true;
    return rules;  // the config's defaults: 49 frames of 60 x 90 latents
}

SizeRules rules_of_15() {
    SizeRules rules;
    rules.transformer.patch_size_t = 2;
    rules.transformer.sample_frames = 81;
    rules.transformer.sample_height = rules.transformer.sample_width = 300;
    return rules;
}

TEST(VideoSize, IsTheModelsOwnUnlessSaid) {
    const VideoSize size = default_size(rules_of_10());
    EXPECT_EQ(size.num_frames, 49);
    EXPECT_EQ(size.height_px, 480);
    EXPECT_EQ(size.width_px, 720);
    EXPECT_THAT(check_size(size, rules_of_10()), IsEmpty());
    EXPECT_EQ(default_fps(rules_of_10()), 8.0);
}

TEST(VideoSize, NamesTheNearestThatTheModelCanMake) {
    SizeRules rules;
    EXPECT_THAT(
        check_size({50, 470, 8}, rules),
        ElementsAre(HasSubstr("frames: 50 is not 8k + 1; the nearest are 49 and 57"),
                    HasSubstr("height: 470 is not a multiple of 16; the nearest are 464 and 480"),
                    HasSubstr("width: 8 is not a multiple of 16; the nearest are 16 and 32")));
    EXPECT_THAT(check_size({0, 480, 720}, rules), ElementsAre(HasSubstr("1 and 9")));
    EXPECT_THAT(check_size({1, 480, 720}, rules), IsEmpty());
}

TEST(VideoSize, LearnedPositionsAllowOneSize) {
    EXPECT_THAT(check_size({49, 464, 720}, rules_of_10()), ElementsAre(HasSubstr("480 alone")));
}

TEST(VideoSize, TemporalPatchesPadAndEndWithTheTable) {
    const SizeRules rules = rules_of_15();
    const VideoSize size = default_size(rules);
    EXPECT_EQ(size.height_px, 768);
    EXPECT_EQ(size.width_px, 1360);
    EXPECT_EQ(default_fps(rules), 16.0);
    const LatentSize latents = latent_size(size, rules);
    EXPECT_EQ(latents.num_frames, 22);
    EXPECT_EQ(latents.padding, 1);
    EXPECT_EQ(latents.height, 96);
    EXPECT_EQ(latents.width, 170);
    EXPECT_THAT(check_size({81, 2416, 16}, rules), ElementsAre(HasSubstr("the most is 2400")));
    EXPECT_EQ(latent_size({49, 480, 720}, rules_of_10()).padding, 0);
}

}  // namespace
}  // namespace matrix::pipeline
