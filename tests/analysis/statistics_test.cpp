#include "matrix/analysis/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace matrix::analysis {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::vector<std::int64_t> layers_of(const auto& entries) {
    std::vector<std::int64_t> layers;
    for (const auto& entry : entries) {
        layers.push_back(entry.layer);
    }
    return layers;
}

TEST(DescendingRanks, TiesShareTheMeanOfTheirPlaces) {
    EXPECT_EQ(descending_ranks({5, 9, 5, 1, 5}), (std::vector<double>{3, 1, 3, 5, 3}));
    EXPECT_EQ(descending_ranks({2, kNone, 3, kNone}), (std::vector<double>{2, 3.5, 1, 3.5}));
    EXPECT_TRUE(descending_ranks({}).empty());
}

/// Twelve layers: by hand, 0..8 are in the top 10 of both videos, 9 of both too, 10 and 11 of one
/// each; video b has 9 and 10 equal at the edge of its top 10, where the earlier layer stands.
LayerScores twelve() {
    return {{"a", "b"},
            {{12, 11, 10, 9, 8, 7, 6, 5, 4, 1, 0.5, 3},    // top 10: 0..8, 11
             {12, 11, 10, 9, 8, 7, 6, 5, 4, 2, 2, 0.1}}};  // top 10: 0..9
}

TEST(Influence, CountsTopTenAndAddsRanks) {
    const std::vector<LayerInfluence> layers = influence(twelve());
    ASSERT_EQ(layers.size(), 12U);
    for (std::size_t l = 0; l < 9; ++l) {
        EXPECT_EQ(layers[l].frequency, 2);
        EXPECT_EQ(layers[l].frequency_rank, 5);  // the mean of places 1 to 9
        EXPECT_EQ(layers[l].magnitude_rank, static_cast<double>(l + 1));
    }
    EXPECT_EQ(layers[9].frequency, 1);
    EXPECT_EQ(layers[10].frequency, 0);
    EXPECT_EQ(layers[11].frequency, 1);
    EXPECT_EQ(layers[9].frequency_rank, 10.5);
    EXPECT_EQ(layers[10].frequency_rank, 12);
    // Magnitudes 1.5, 1.25 and 1.55: ranks 11, 12 and 10.
    EXPECT_EQ(layers[9].rank_sum, 21.5);
    EXPECT_EQ(layers[11].rank_sum, 20.5);
    EXPECT_EQ(layers[10].rank_sum, 24);
    EXPECT_TRUE(layers[11].influential);
    EXPECT_FALSE(layers[9].influential);
    EXPECT_EQ(layers_of(by_rank_sum(layers)),
              (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 11}));
}

TEST(Influence, EqualRankSumsGoByMagnitudeThenByLayer) {
    // Frequencies 2 2 2, magnitudes equal in 1 and 2: all sums of 1 and 2 are alike.
    const LayerScores scores = {{"a", "b"}, {{1, 4, 3}, {2, 4, 5}}};
    EXPECT_EQ(layers_of(by_rank_sum(influence(scores))), (std::vector<std::int64_t>{1, 2, 0}));
}

TEST(Influence, DummiesHaveNoPlace) {
    const LayerScores scores = {{"a"}, {{9, 3, 2, 1}}};
    const std::vector<LayerInfluence> layers = influence(scores, {true, false, false, false});
    EXPECT_TRUE(layers[0].dummy);
    EXPECT_FALSE(layers[0].influential);
    EXPECT_EQ(layers[0].frequency, 0);
    EXPECT_EQ(layers[1].magnitude_rank, 1);
}

TEST(Influence, VideosWithoutAScoreCountNowhere) {
    const LayerScores scores = {{"a", "b"}, {{1, kNone}, {3, kNone}}};
    const std::vector<LayerInfluence> layers = influence(scores);
    EXPECT_EQ(layers[0].magnitude, 2);
    EXPECT_EQ(layers[0].frequency, 2);
    EXPECT_FALSE(layers[1].influential);
}

TEST(Dominance, GapsAreAgainstTheMeanOfAllWithAnOutcome) {
    LayerScores scores = {{"s1", "s2", "f1", "unknown"},
                          {{4, 1, 2}, {6, 1, 2}, {2, 4, 2}, {100, 100, 100}}};
    const std::vector<Outcome> outcomes = {{"s1", true}, {"s2", true}, {"f1", false}};
    const std::vector<LayerDominance> layers = dominance(scores, influence(scores), outcomes);
    // Layer 0: successes 5, failures 2, all 4. Layer 1: 1, 4, 2. Layer 2: all 2.
    ASSERT_EQ(layers_of(layers), (std::vector<std::int64_t>{0, 2, 1}));
    EXPECT_EQ(layers[0].gap_success, 1);
    EXPECT_EQ(layers[0].gap_failure, -2);
    EXPECT_EQ(layers[0].separation, 3);
    EXPECT_TRUE(layers[0].dominant);
    EXPECT_FALSE(layers[1].dominant) << "no gap at all";
    EXPECT_EQ(layers[2].gap_success, -1);
    EXPECT_EQ(layers[2].gap_failure, 2);
    EXPECT_FALSE(layers[2].dominant) << "higher in failures";
}

/// Over exactly both sets the ratio of the gaps is failures over successes, whatever the layer: how
/// the published gaps of one panel hang together (+.1967 / -.2485 = .79).
TEST(Dominance, GapsOfOnePanelHaveOneRatio) {
    LayerScores scores;
    std::vector<Outcome> outcomes;
    for (int v = 0; v < 43; ++v) {
        scores.videos.push_back(std::to_string(v));
        scores.values.push_back({std::sin(v) + 2, std::cos(3 * v) + 2, v * 0.1});
        outcomes.push_back({std::to_string(v), v % 43 < 24});  // 24 successes, 19 failures
    }
    for (const LayerDominance& layer : dominance(scores, influence(scores), outcomes)) {
        EXPECT_NEAR(-layer.gap_success / layer.gap_failure, 19.0 / 24.0, 1e-9);
    }
}

TEST(Dominance, NeedsBothOutcomes) {
    const LayerScores scores = {{"a", "b"}, {{1, 2}, {3, 4}}};
    EXPECT_TRUE(dominance(scores, influence(scores), {}).empty());
    EXPECT_TRUE(dominance(scores, influence(scores), {{"a", true}, {"b", true}}).empty());
}

TEST(Variances, ALayerThatScoresEveryPromptAlikeIsADummy) {
    const LayerScores scores = {{"a", "b"}, {{3, 0.1, 0}, {5, 0.1, 0}}};
    const std::vector<LayerVariance> layers = variances(scores, 1e-12);
    EXPECT_EQ(layers[0].mean, 4);
    EXPECT_EQ(layers[0].variance, 1);
    EXPECT_FALSE(layers[0].dummy);
    EXPECT_TRUE(layers[1].dummy);
    EXPECT_TRUE(layers[2].dummy);
    EXPECT_TRUE(variances(scores, 0.1)[0].dummy) << "1 <= 0.1 * 16";
}

TEST(Variances, OneVideoSaysNothing) {
    EXPECT_FALSE(variances({{"a"}, {{3}}}, 1e-12)[0].dummy);
}

TEST(ChooseLayers, TakesDominantOnesAndSaysWhy) {
    const LayerScores scores = {{"s", "f"}, {{5, 9, 6}, {4, 9.5, 1}}};
    const std::vector<LayerInfluence> layers = influence(scores);
    const std::vector<Outcome> outcomes = {{"s", true}, {"f", false}};
    const LayerChoice one = choose_layers(layers, dominance(scores, layers, outcomes), 1);
    EXPECT_EQ(one.layers, std::vector<std::int64_t>{2});
    EXPECT_NE(one.reason.find("separates successes (2.5) from failures (-2.5) by 5"),
              std::string::npos)
        << one.reason;
    EXPECT_EQ(choose_layers(layers, dominance(scores, layers, outcomes), 5).layers,
              (std::vector<std::int64_t>{2, 0}));
    const LayerChoice influential = choose_layers(layers, {}, 1);
    EXPECT_EQ(influential.layers, std::vector<std::int64_t>{1});
    EXPECT_NE(influential.reason.find("not both successes and failures"), std::string::npos);
}

}  // namespace
}  // namespace matrix::analysis
