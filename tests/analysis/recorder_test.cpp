#include "matrix/analysis/recorder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "analysis/sampling.h"
#include "lora/adapters.h"

namespace matrix::analysis {
namespace {

using analysis::testing::entity;

TEST(AttentionRecorder, IsTheMaterialisedMapsScores) {
    for (const auto& [text, frames, height, width, heads, dim] :
         {std::tuple{7, 3, 2, 3, 2, 8}, {5, 1, 3, 2, 1, 4}, {11, 4, 3, 5, 3, 16}}) {
        const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, text, frames, height,
                                     width};
        const std::int64_t rows = layout.num_queries();
        const at::Tensor q = lora::testing::values("q", {1, heads, rows, dim}) * 1.5;
        const at::Tensor k = lora::testing::values("k", {1, heads, rows, dim}) * 1.5;
        const std::vector<Entity> entities = {entity("id1", 1, layout), entity("verb1", 2, layout)};
        const AttentionRecorder recorder(entities);
        for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
            const at::Tensor query = q.to(dtype), key = k.to(dtype);
            const at::Tensor lse =
                (at::matmul(query, key.mT()) / std::sqrt(static_cast<double>(dim))).logsumexp(-1);
            const at::Tensor maps = recorder.tap(at::kCPU)({query, key, lse, layout});
            EXPECT_EQ(maps.scalar_type(), dtype);
            analysis::testing::expect_reading(recorder.read(maps), entities,
                                              analysis::testing::Reference(query, key, layout),
                                              dtype == at::kFloat ? 1e-5 : 1e-12);
        }
    }
}

TEST(AttentionRecorder, WhatIsNotThereHasNoScore) {
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, 6, 2, 2, 2};
    Entity mute = entity("id1", 1, layout), hidden = entity("id2", 2, layout),
           gone = entity("id3", 3, layout);
    mute.tokens.zero_();
    hidden.cells[0].zero_();
    gone.cells.zero_();
    const std::vector<Entity> entities = {mute, hidden, gone};
    const AttentionRecorder recorder(entities);
    const at::Tensor q = lora::testing::values("q", {1, 2, 14, 4});
    const at::Tensor lse = (at::matmul(q, q.mT()) / 2.0).logsumexp(-1);
    const LayerReading reading = recorder.read(recorder.tap(at::kCPU)({q, q, lse, layout}));
    EXPECT_TRUE(reading.v2t_scores[0].isnan().all().item<bool>()) << "no words";
    EXPECT_FALSE(reading.v2v_scores[0].isnan().all().item<bool>());
    EXPECT_TRUE(reading.v2v_scores[1].isnan().all().item<bool>()) << "no first-frame cells";
    EXPECT_EQ(reading.v2t_scores[2][kTpSum].item<double>(), 0) << "an empty mask scores 0";
    EXPECT_TRUE(std::isnan(reading.v2t_scores[2][kTpMean].item<double>()));
}

TEST(Analysis, OfASamplingIsThatOfItsAttention) {
    const auto model = lora::testing::tiny_model();
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, 4, 3, 2, 2};
    const std::vector<Entity> entities = {entity("id1", 5, layout), entity("verb1", 6, layout)};
    diffusion::SchedulerConfig scheduler;
    scheduler.rescale_betas_zero_snr = true;
    const pipeline::Conditions conditions = {lora::testing::values("image", {1, 3, 16, 4, 4}),
                                             {},
                                             lora::testing::values("prompt", {1, 4, 8}),
                                             lora::testing::values("negative", {1, 4, 8})};
    for (const bool batched : {true, false}) {
        analysis::testing::expect_reads_its_attention(
            {*model,
             3,
             scheduler,
             4,
             lora::testing::values("noise", {1, 3, 16, 4, 4}),
             conditions,
             {3.0, false, batched}},
            entities, 1e-5);
    }
}

}  // namespace
}  // namespace matrix::analysis
