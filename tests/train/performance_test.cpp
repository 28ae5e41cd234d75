#include "matrix/train/performance.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "train/trajectory.h"

namespace matrix::train {
namespace {

TEST(Performance, SaysWhatAStepCosts) {
    const test::Trajectory trajectory;
    const nn::TokenLayout layout = trajectory.model->layout(3, 4, 6, 8);  // 8 + 3 * 2 * 3 rows
    const Performance performance(*trajectory.model, layout, 4, Ranks::single());
    nlohmann::json step = performance.of_step(12, 0.5, 0.125);
    EXPECT_GT(step["memory_gib"], 0.01);
    EXPECT_LT(step["memory_gib"], 1024);
    step.erase("memory_gib");
    EXPECT_EQ(step, nlohmann::json::parse(R"({"step": 12, "step_seconds": 0.5,
                                              "data_seconds": 0.125,
                                              "tokens_per_second": 208.0})"));
}

TEST(Performance, KnowsGpusByTheNamesTheirDriversGive) {
    EXPECT_EQ(peak_bfloat16_flops("NVIDIA H100 80GB HBM3"), 989e12);
    EXPECT_EQ(peak_bfloat16_flops("NVIDIA H200"), 989e12);
    EXPECT_EQ(peak_bfloat16_flops("NVIDIA B200"), 2250e12);
    EXPECT_EQ(peak_bfloat16_flops("NVIDIA A100-SXM4-40GB"), 312e12);
    EXPECT_EQ(peak_bfloat16_flops("NVIDIA GeForce RTX 4090"), 165e12);
    for (const char* other : {"Tesla T4", "NVIDIA A10", "NVIDIA RTX A4000", ""}) {
        EXPECT_EQ(peak_bfloat16_flops(other), std::nullopt) << other;
    }
}

}  // namespace
}  // namespace matrix::train
