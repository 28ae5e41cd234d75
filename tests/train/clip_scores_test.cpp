#include "train/clip_scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace matrix::train {
namespace {

using alignment::Scores;

void expect_same_bits(double actual, double expected) {
    EXPECT_TRUE(std::memcmp(&actual, &expected, sizeof actual) == 0) << actual << " " << expected;
}

void expect_same(const Scores& actual, const Scores& expected) {
    for (const auto score : {&Scores::auc, &Scores::bind, &Scores::enrich, &Scores::aas}) {
        expect_same_bits((actual.*score).sum, (expected.*score).sum);
        EXPECT_EQ((actual.*score).count, (expected.*score).count);
    }
}

/// Values that no short decimal is.
Scores scores(double x) {
    return {{x / 3, 1}, {std::sqrt(x) * 1e-300, 2}, {std::exp(x) * 1e17, 3}, {-x / 7, 1'000'000}};
}

TEST(ClipScores, ComeBackInTheSameBits) {
    RowScores rows;
    rows[7] = {{0.1 + 0.2, {{3, {scores(1.7), scores(0.3)}}, {12, {scores(11), Scores{}}}}},
               {std::numeric_limits<double>::denorm_min(), {}}};
    rows[1'000'000'000'000] = {{std::numeric_limits<double>::max(), {{0, {scores(5), scores(6)}}}}};
    const RowScores actual = decode_scores(encode_scores(rows));
    ASSERT_EQ(actual.size(), 2u);
    for (const auto& [row, clips] : rows) {
        ASSERT_EQ(actual.count(row), 1u) << row;
        ASSERT_EQ(actual.at(row).size(), clips.size()) << row;
        for (std::size_t i = 0; i < clips.size(); ++i) {
            const ClipScores& clip = actual.at(row)[i];
            expect_same_bits(clip.loss_denoise, clips[i].loss_denoise);
            ASSERT_EQ(clip.blocks.size(), clips[i].blocks.size());
            for (const auto& [block, both] : clips[i].blocks) {
                expect_same(clip.blocks.at(block).v2t, both.v2t);
                expect_same(clip.blocks.at(block).v2v, both.v2v);
            }
        }
    }
}

TEST(ClipScores, KeepLossesThatAreNotFinite) {
    const double nan = std::numeric_limits<double>::quiet_NaN(),
                 infinity = std::numeric_limits<double>::infinity();
    RowScores rows;
    rows[0] = {{nan, {}}, {infinity, {}}, {-infinity, {}}, {-0.0, {}}};
    const RowScores actual = decode_scores(encode_scores(rows));
    ASSERT_EQ(actual.at(0).size(), 4u);
    for (std::size_t i = 0; i < 4; ++i) {
        expect_same_bits(actual.at(0)[i].loss_denoise, rows[0][i].loss_denoise);
    }
}

TEST(ClipScores, OfNoRowsAreNone) {
    EXPECT_TRUE(decode_scores(encode_scores({})).empty());
}

}  // namespace
}  // namespace matrix::train
