#include "matrix/nn/token_layout.h"

#include <gtest/gtest.h>

namespace matrix::nn {
namespace {

TEST(TokenLayout, JointSequenceHasTextRowsFirst) {
    const TokenLayout layout{TokenLayout::Attention::kJoint, 226, 13, 30, 45};
    EXPECT_EQ(layout.frame_tokens(), 1350);
    EXPECT_EQ(layout.video_tokens(), 17550);
    EXPECT_EQ(layout.video_begin(), 226);
    EXPECT_EQ(layout.num_queries(), 17776);
    EXPECT_EQ(layout.num_keys(), 17776);
}

TEST(TokenLayout, CrossAttentionHasVideoQueriesAndTextKeys) {
    const TokenLayout layout{TokenLayout::Attention::kCross, 226, 13, 30, 45};
    EXPECT_EQ(layout.video_begin(), 0);
    EXPECT_EQ(layout.num_queries(), 17550);
    EXPECT_EQ(layout.num_keys(), 226);
}

}  // namespace
}  // namespace matrix::nn
