#include "matrix/alignment/scores.h"

#include "alignment/reference.h"
#include "matrix/core/random.h"
#include "matrix/kernels/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace matrix::alignment {
namespace {

double pairwise_auc(const at::Tensor& values, const at::Tensor& positive) {
    double wins = 0, pairs = 0;
    for (std::int64_t i = 0; i < values.numel(); ++i) {
        for (std::int64_t j = 0; j < values.numel(); ++j) {
            if (positive[i].item<bool>() && !positive[j].item<bool>()) {
                const double a = values[i].item<double>(), b = values[j].item<double>();
                wins += a > b ? 1 : a == b ? 0.5 : 0;
                pairs += 1;
            }
        }
    }
    return wins / pairs;
}

TEST(RocAuc, EqualsCountingPairs) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        // Rounding makes many ties.
        const at::Tensor values = (keyed_normal({40}, seed, Purpose::kSynth, 1) * 2).round();
        const at::Tensor positive = keyed_normal({40}, seed, Purpose::kSynth, 2).gt(0.5);
        EXPECT_DOUBLE_EQ(roc_auc(values, positive), pairwise_auc(values, positive));
    }
}

TEST(RocAuc, KnownValues) {
    const at::Tensor positive = at::tensor({0, 0, 1, 1}).to(at::kBool);
    EXPECT_DOUBLE_EQ(roc_auc(at::tensor({1.0, 2.0, 3.0, 4.0}), positive), 1.0);
    EXPECT_DOUBLE_EQ(roc_auc(at::tensor({4.0, 3.0, 2.0, 1.0}), positive), 0.0);
    EXPECT_DOUBLE_EQ(roc_auc(at::tensor({7.0, 7.0, 7.0, 7.0}), positive), 0.5);
    EXPECT_TRUE(std::isnan(roc_auc(at::tensor({1.0, 2.0}), at::ones({2}, at::kBool))));
    EXPECT_TRUE(std::isnan(roc_auc(at::tensor({1.0, 2.0}), at::zeros({2}, at::kBool))));
    EXPECT_TRUE(std::isnan(roc_auc(at::tensor({1.0, std::nan(""), 3.0, 4.0}), positive)));
}

TEST(CellMasks, CoverageCountsPixelsAndFrames) {
    at::Tensor track = at::zeros({5, 32, 16}, at::kByte);
    track[0].narrow(0, 0, 16).narrow(1, 0, 4).fill_(255);  // a quarter of cell (0, 0) in frame 0
    track[2].narrow(0, 16, 16).fill_(1);                   // cell (1, 0) in one of four frames
    track[3][17][3] = 1;                                   // and one pixel of another
    const at::Tensor coverage = cell_coverage(track);      // [2, 2, 1]
    EXPECT_FLOAT_EQ(coverage[0][0][0].item<float>(), 0.25F);
    EXPECT_FLOAT_EQ(coverage[0][1][0].item<float>(), 0.0F);
    EXPECT_FLOAT_EQ(coverage[1][0][0].item<float>(), 0.0F);
    EXPECT_FLOAT_EQ(coverage[1][1][0].item<float>(), 257.0F / 1024.0F);
}

TEST(CellMasks, LatentMaskTakesTopLeftPixelsAndOrsFrames) {
    at::Tensor track = at::zeros({9, 16, 32}, at::kByte);
    track[0][0][0] = 1;   // cell (0, 0) of latent frame 0
    track[4][0][16] = 1;  // cell (0, 1) of latent frame 1
    track[5][3][3] = 1;   // no top-left pixel
    const at::Tensor wanted = at::tensor({1, 0, 0, 1, 0, 0}).view({3, 1, 2}).to(at::kBool);
    EXPECT_TRUE(at::equal(latent_mask(track), wanted));
}

// One interaction on a grid of 2 frames of 1 x 4 cells. The subject owns cells 0 and 1, the object
// 1 and 2.
Supervision overlapping() {
    Supervision s;
    s.token_mask = at::zeros({1, 1, 3, 4}, at::kByte);
    s.token_mask[0][0][0][0] = 1;
    s.token_mask[0][0][1][1] = 1;
    s.token_mask[0][0][2][2] = 1;
    s.query_mask = at::zeros({1, 1, 2, 1, 4}, at::kByte);
    s.query_mask[0][0][0][0][0] = 1;
    s.query_mask[0][0][1][0][2] = 1;
    s.masks = at::zeros({1, 1, 2, 5, 16, 64}, at::kByte);
    s.masks[0][0][0].narrow(2, 0, 32).fill_(1);
    s.masks[0][0][1].narrow(2, 16, 32).fill_(1);
    return s;
}

TEST(AttentionScorer, HandComputedScores) {
    const AttentionScorer scorer(AlignmentConfig{}, overlapping(), at::kCPU);
    at::Tensor maps = at::zeros({1, 10, 2, 1, 4});
    const auto set = [&](std::int64_t i, std::vector<float> row) {
        for (std::int64_t f = 0; f < 2; ++f) {
            maps[0][i][f][0].copy_(at::tensor(row));
        }
    };
    set(0, {4, 3, 2, 1});              // subject: right
    set(1, {4, 1, 2, 3});              // object, cells 1 and 2: mostly wrong
    set(2, {1, 1, 1, 1});              // verb, cells 0 to 2: no opinion
    set(3, {0.4F, 0.4F, 0.1F, 0.1F});  // probabilities
    set(4, {0.25F, 0.25F, 0.25F, 0.25F});
    set(5, {0.2F, 0.2F, 0.2F, 0.4F});
    const BlockScores scores = scorer.score(maps);
    // Subject 1; object: pairs (1, 4) (1, 3) (2, 4) (2, 3) all lost; verb 0.5.
    EXPECT_NEAR(scores.v2t.auc.value(), (1.0 + 0.0 + 0.5) / 3, 1e-12);
    // Cell 0 against cell 2: the subject's map puts 4 over 2, the object's 2 under 4.
    EXPECT_NEAR(scores.v2t.bind.value(), (1.0 + 0.0) / 2, 1e-12);
    EXPECT_EQ(scores.v2t.bind.count, 2);
    EXPECT_NEAR(scores.v2t.enrich.value(), (0.8 / 0.5 + 1.0 + 0.6 / 0.75) / 3, 1e-6);
    EXPECT_NEAR(scores.v2t.aas.value(), (1.6 + 1.0 + 1.2) / 3, 1e-6);
}

TEST(AttentionScorer, PropagationLeavesTheFirstFrameOut) {
    AlignmentConfig config;
    config.sga.reset();
    const AttentionScorer scorer(config, overlapping(), at::kCPU);
    at::Tensor maps = at::zeros({1, 4, 2, 1, 4});
    // Subject: perfect in frame 0, reversed in frame 1.
    maps[0][0][0][0].copy_(at::tensor({4.0F, 3.0F, 2.0F, 1.0F}));
    maps[0][0][1][0].copy_(at::tensor({1.0F, 2.0F, 3.0F, 4.0F}));
    maps[0][2][0][0].fill_(0.2F);
    maps[0][2][1][0].copy_(at::tensor({0.0F, 0.0F, 0.1F, 0.1F}));
    const BlockScores scores = scorer.score(maps);
    EXPECT_EQ(scores.v2t.auc.count, 0);
    EXPECT_TRUE(std::isnan(scores.v2t.auc.value()));
    EXPECT_NEAR(scores.v2v.auc.value(), (0.0 + 0.5) / 2, 1e-12);
    // Nothing of the subject's, and the object's map has no probability at all: one value, 0.
    EXPECT_EQ(scores.v2v.enrich.count, 1);
    EXPECT_NEAR(scores.v2v.enrich.value(), 0.0, 1e-12);
    // The AAS keeps frame 0.
    EXPECT_NEAR(scores.v2v.aas.value(), (0.4 + 0.0) / 2, 1e-6);
}

TEST(AttentionScorer, AbsentEntitiesAreLeftOut) {
    Supervision s = overlapping();
    s.token_mask[0][0][2].zero_();  // no verb
    s.masks[0][0][1].zero_();       // no object
    s.query_mask[0][0][1].zero_();
    const AttentionScorer scorer(AlignmentConfig{}, s, at::kCPU);
    const BlockScores scores = scorer.score(at::rand({1, 10, 2, 1, 4}));
    EXPECT_EQ(scores.v2t.auc.count, 1);
    EXPECT_EQ(scores.v2t.bind.count, 0);
    EXPECT_EQ(scores.v2t.aas.count, 1);
    EXPECT_EQ(scores.v2v.auc.count, 1);
}

TEST(AttentionScorer, TapGivesLogitsAndProbabilities) {
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, 4, 2, 1, 4};
    const at::Tensor q = keyed_normal({1, 2, 12, 8}, 1, Purpose::kSynth, 1);
    const at::Tensor k = keyed_normal({1, 2, 12, 8}, 1, Purpose::kSynth, 2);
    const at::Tensor lse = kernels::attention(q, k, k, 1 / std::sqrt(8.0)).log_sum_exp;
    const Supervision s = overlapping();
    AlignmentConfig config;
    config.center = "text";
    const at::Tensor maps = AttentionScorer(config, s, at::kCPU).tap()({q, k, lse, layout});
    using Options = ReadoutOptions;
    const auto wanted = [&](Options options, const at::Tensor& mask) {
        return reference::materialised(options, q.to(at::kDouble), k.to(at::kDouble),
                                       mask.flatten(1, 2), layout);
    };
    const at::Tensor all =
        at::cat({wanted({Options::Direction::kV2t, Options::Value::kLogits, Options::Center::kText},
                        s.token_mask),
                 wanted({Options::Direction::kV2t, Options::Value::kProbabilities}, s.token_mask),
                 wanted({Options::Direction::kV2v, Options::Value::kLogits}, s.query_mask),
                 wanted({Options::Direction::kV2v, Options::Value::kProbabilities}, s.query_mask)},
                1);
    EXPECT_LE(reference::relative_error(maps, all), 1e-5);
}

TEST(MeanScore, LeavesUndefinedValuesOut) {
    MeanScore mean;
    EXPECT_TRUE(std::isnan(mean.value()));
    mean.add(std::nan(""));
    mean.add(1.0);
    MeanScore other;
    other.add(4.0);
    mean.add(other);
    EXPECT_DOUBLE_EQ(mean.value(), 2.5);
}

}  // namespace
}  // namespace matrix::alignment
