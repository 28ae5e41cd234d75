#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "matrix/models/cogvideox.h"
#include "support/tensors.h"

namespace matrix::models {
namespace {

CogVideoXConfig published() {
    CogVideoXConfig config;
    config.num_attention_heads = 48;
    config.use_rotary_positional_embeddings = true;
    config.use_learned_positional_embeddings = true;
    return config;
}

using Crop = std::array<std::int64_t, 4>;

TEST(RotaryTable, NativeSizeHasWholePositions) {
    const RotaryTable table = rotary_table(published(), 13, 60, 90);
    EXPECT_EQ(table.cos.sizes(), (std::vector<std::int64_t>{17550, 64}));
    EXPECT_EQ(table.crop, (Crop{0, 0, 30, 45}));
    // Frame 12, row 29, column 44, in the order t (16 channels), h (24), w (24), each frequency
    // twice.
    EXPECT_NEAR(table.cos.select(0, 17549)[0].item<double>(), std::cos(12.0), 1e-5);
    EXPECT_NEAR(table.sin.select(0, 17549)[1].item<double>(), std::sin(12.0), 1e-5);
    EXPECT_NEAR(table.sin.select(0, 17549)[16].item<double>(), std::sin(29.0), 1e-5);
    EXPECT_NEAR(table.sin.select(0, 17549)[41].item<double>(), std::sin(44.0), 1e-5);
    EXPECT_NEAR(table.sin.select(0, 17549)[63].item<double>(),
                std::sin(44.0 / std::pow(10000.0, 22.0 / 24)), 1e-5);
    // Tokens run along columns first.
    EXPECT_NEAR(table.sin.select(0, 1)[40].item<double>(), std::sin(1.0), 1e-5);
    EXPECT_NEAR(table.sin.select(0, 45)[16].item<double>(), std::sin(1.0), 1e-5);
}

TEST(RotaryTable, OtherAspectRatiosTakeACentredRegion) {
    EXPECT_EQ(rotary_table(published(), 1, 64, 64).crop, (Crop{0, 8, 30, 38}));
    EXPECT_EQ(rotary_table(published(), 1, 90, 60).crop, (Crop{0, 12, 30, 32}));
}

TEST(SincosTable, TextRowsAreZeroAndColumnsComeFirst) {
    CogVideoXConfig config;
    config.num_attention_heads = 1;
    config.attention_head_dim = 32;  // 8 for time, 12 for columns, 12 for rows
    config.max_text_seq_length = 3;
    const at::Tensor table = sincos_position_table(config, 2, 4, 6);
    EXPECT_EQ(table.sizes(), (std::vector<std::int64_t>{3 + 2 * 2 * 3, 32}));
    EXPECT_EQ(table.narrow(0, 0, 3).abs().sum().item<double>(), 0);
    const at::Tensor token = table[3 + 6 + 3 + 2];  // frame 1, row 1, column 2
    EXPECT_NEAR(token[0].item<double>(), std::sin(1.0), 1e-7);
    EXPECT_NEAR(token[4].item<double>(), std::cos(1.0), 1e-7);
    EXPECT_NEAR(token[8].item<double>(), std::sin(2 / 1.875), 1e-7);
    EXPECT_NEAR(token[20].item<double>(), std::sin(1 / 1.875), 1e-7);
}

}  // namespace
}  // namespace matrix::models
