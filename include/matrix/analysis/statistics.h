#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// From scores to layers (paper section 4.5 and appendix C). NaN is a video without a score.

namespace matrix::analysis {

/// a(v, l): the step-averaged score of each video at each layer, for one variant.
struct LayerScores {
    std::vector<std::string> videos;
    std::vector<std::vector<double>> values;  ///< [videos][layers]

    [[nodiscard]] std::size_t num_layers() const { return values.empty() ? 0 : values[0].size(); }
};

/// Mean over the values that are not NaN; NaN of none.
[[nodiscard]] double defined_mean(const std::vector<double>& values);

/// Ranks from 1 for the largest value; equal values share the mean of their places, NaN ranks last.
[[nodiscard]] std::vector<double> descending_ranks(const std::vector<double>& values);

struct LayerInfluence {
    std::int64_t layer = 0;
    std::int64_t frequency = 0;  ///< videos in whose top 10 the layer is
    double magnitude = 0;        ///< mean over the videos
    double frequency_rank = 0;
    double magnitude_rank = 0;
    double rank_sum = 0;
    bool influential = false;  ///< among the 10 smallest rank sums
    bool dummy = false;        ///< left out by the variance filter, and without ranks
};

inline constexpr std::size_t kTop = 10;

/// By layer. In a video's top 10 equal scores stand in the order of the layers; equal rank sums in
/// that of the magnitude, then of the layers.
[[nodiscard]] std::vector<LayerInfluence> influence(const LayerScores& scores,
                                                    const std::vector<bool>& dummies = {});

/// The influential ones, the most first.
[[nodiscard]] std::vector<LayerInfluence> by_rank_sum(std::vector<LayerInfluence> layers);

/// What people said of a video: whether the interaction came about.
struct Outcome {
    std::string video;
    bool success = false;
};

struct LayerDominance {
    std::int64_t layer = 0;
    double gap_success = 0;  ///< mean over the successes less the mean over all
    double gap_failure = 0;  ///< mean over the failures less the mean over all
    double separation = 0;   ///< gap_success - gap_failure
    bool dominant = false;   ///< gap_success > 0 and gap_failure < 0
};

/// Of the influential layers, the largest separation first. "All" are the videos that have an
/// outcome. Empty unless both kinds occur.
[[nodiscard]] std::vector<LayerDominance> dominance(const LayerScores& scores,
                                                    const std::vector<LayerInfluence>& layers,
                                                    const std::vector<Outcome>& outcomes);

/// Population variance over the videos and the mean, by layer.
struct LayerVariance {
    std::int64_t layer = 0;
    double mean = 0;
    double variance = 0;
    bool dummy = false;
};

/// A layer that scores every prompt alike sees none of them: a dummy, where variance <= threshold
/// mean^2. With fewer than two videos nothing is known, and no layer is one.
[[nodiscard]] std::vector<LayerVariance> variances(const LayerScores& scores, double threshold);

/// The layers of one variant, and why.
struct LayerChoice {
    std::vector<std::int64_t> layers;
    std::string reason;
};

/// The dominant layers of largest separation, `count` of them; where there are no outcomes, or no
/// influential layer separates them, the most influential ones.
[[nodiscard]] LayerChoice choose_layers(const std::vector<LayerInfluence>& layers,
                                        const std::vector<LayerDominance>& dominance,
                                        std::size_t count);

}  // namespace matrix::analysis
