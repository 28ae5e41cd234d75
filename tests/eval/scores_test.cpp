#include "matrix/eval/scores.h"

#include <gtest/gtest.h>

#include <string_view>

#include "matrix/eval/sampling.h"

namespace matrix::eval {
namespace {

/// 'y', 'n' or '-' (unanswered), question by question.
Answers answers(std::string_view letters) {
    Answers result{};
    for (std::size_t i = 0; i < kQuestions; ++i) {
        result[i] = letters[i] == 'y'   ? Answer::kYes
                    : letters[i] == 'n' ? Answer::kNo
                                        : Answer::kMissing;
    }
    return result;
}

double spi(std::int64_t e, std::int64_t d) {
    return propagation(10, e, d, {}).spi;
}

TEST(Propagation, HasTheProtocolsCheckValues) {
    EXPECT_EQ(spi(0, 0), 1.0);
    EXPECT_EQ(spi(1, 0), 0.75);
    EXPECT_EQ(spi(1, 1), 0.5);
    EXPECT_EQ(spi(4, 0), 0.0);
    EXPECT_EQ(spi(10, 0), -1.5);
    EXPECT_EQ(spi(10, 10), -4.0);
    EXPECT_EQ(propagation(10, 1, 3, {}).emergence, 0.5);
    EXPECT_EQ(propagation(10, 1, 3, {}).disappearance, -0.5);
}

TEST(Propagation, ClampsOnRequestAndIsZeroWithoutFrames) {
    ScoreOptions clamp;
    clamp.clamp_spi = true;
    EXPECT_EQ(propagation(10, 10, 10, clamp).spi, 0.0);
    EXPECT_EQ(propagation(10, 1, 0, clamp).spi, 0.75);
    EXPECT_EQ(propagation(0, 0, 0, {}).spi, 0.0);
}

TEST(Combine, HasTheProtocolsCheckValues) {
    const Fidelity result = combine(0.833, 0.75, 0.75);
    EXPECT_DOUBLE_EQ(result.kisa, 0.62475);
    EXPECT_DOUBLE_EQ(result.sgi, 0.5625);
    EXPECT_DOUBLE_EQ(result.fidelity, 0.593625);
}

TEST(RawScores, RoundsToThreeDecimalsWherePublished) {
    const std::vector<Answers> video = {answers("yyyyynyyyn")};
    const RawScores published = raw_scores(video, {});
    EXPECT_EQ(published.kisa, 0.833);
    EXPECT_EQ(published.sgi, 0.75);
    EXPECT_EQ(published.all, 0.8);
    EXPECT_EQ(published.yes, 8);
    EXPECT_EQ(published.total, 10);
    ScoreOptions paper;
    paper.variant = Variant::kPaper;
    EXPECT_DOUBLE_EQ(raw_scores(video, paper).kisa, 5.0 / 6.0);
}

TEST(RawScores, MissingAnswersAreNoesUnlessSkipped) {
    const std::vector<Answers> video = {answers("yyy---yy--"), answers("nnnnnnnnnn")};
    const RawScores counted = raw_scores(video, {});
    EXPECT_EQ(counted.kisa, 0.25);
    EXPECT_EQ(counted.sgi, 0.25);
    EXPECT_EQ(counted.missing, 5);
    EXPECT_EQ(counted.total, 20);
    ScoreOptions skip;
    skip.skip_missing = true;
    const RawScores pooled = raw_scores(video, skip);  // 3 of 9, 2 of 6
    EXPECT_EQ(pooled.kisa, 0.333);
    EXPECT_EQ(pooled.sgi, 0.333);
    EXPECT_EQ(pooled.total, 15);
    skip.variant = Variant::kPaper;
    const RawScores mean = raw_scores(video, skip);  // (3/3 + 0/6) / 2, (2/2 + 0/4) / 2
    EXPECT_EQ(mean.kisa, 0.5);
    EXPECT_EQ(mean.sgi, 0.5);
}

TEST(RawScores, AnInteractionWithoutAnswersLeavesTheMean) {
    const std::vector<Answers> video = {answers("yyyyyyyyyy"), answers("----------")};
    ScoreOptions options{Variant::kPaper, true, false};
    EXPECT_EQ(raw_scores(video, options).kisa, 1.0);
    EXPECT_EQ(raw_scores({answers("----------")}, options).kisa, 0.0);
    options.skip_missing = false;
    EXPECT_EQ(raw_scores(video, options).kisa, 0.5);
}

TEST(SampledFrames, TakesEveryFifthAndBothEnds) {
    using Frames = std::vector<std::int64_t>;
    EXPECT_EQ(sampled_frames(1), (Frames{0}));
    EXPECT_EQ(sampled_frames(2), (Frames{0, 1}));
    EXPECT_EQ(sampled_frames(5), (Frames{0, 4}));
    EXPECT_EQ(sampled_frames(6), (Frames{0, 5}));
    EXPECT_EQ(sampled_frames(7), (Frames{0, 5, 6}));
    EXPECT_EQ(sampled_frames(49), (Frames{0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 48}));
    const Frames wan = sampled_frames(81);
    EXPECT_EQ(wan.size(), 17u);
    EXPECT_EQ(wan.back(), 80);
    EXPECT_EQ(wan[15], 75);
}

}  // namespace
}  // namespace matrix::eval
