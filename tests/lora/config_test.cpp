#include "matrix/lora/config.h"

#include <gmock/gmock.h>

namespace matrix::lora {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(LoraConfig, ScalesAsPeftDoes) {
    LoraConfig config;
    config.rank = 16;
    config.alpha = 8.0;
    EXPECT_EQ(config.scale(), 0.5);
    config.rslora = true;
    EXPECT_EQ(config.scale(), 2.0);
}

TEST(LoraConfig, FindsWhatNoSingleFieldShows) {
    LoraConfig config;
    EXPECT_THAT(check(config, 42, true), IsEmpty());
    EXPECT_THAT(check(config, 12, true),
                ElementsAre(AllOf(HasSubstr("lora.blocks: block 12"), HasSubstr("0..11"))));
    config.blocks = {1, 2, 1};
    config.targets = {"to_q", "to_q"};
    config.input_projection = "frozen";
    EXPECT_THAT(check(config, 42, true), ElementsAre(HasSubstr("block 1 is named twice"),
                                                     HasSubstr("\"to_q\" is named twice"),
                                                     HasSubstr("lora.input_projection")));
    config.blocks = {1};
    config.targets = {"to_q"};
    EXPECT_THAT(check(config, 42, false), IsEmpty());
    config.blocks = {};
    EXPECT_THAT(check(config, 42, false), ElementsAre(HasSubstr("lora.blocks: nothing")));
    config.input_projection = "full";
    EXPECT_THAT(check(config, 42, false), IsEmpty());
}

}  // namespace
}  // namespace matrix::lora
