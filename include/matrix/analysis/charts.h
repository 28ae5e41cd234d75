#pragma once

#include "matrix/analysis/statistics.h"

#include <cstdint>
#include <string>
#include <vector>

// Charts as SVG, each a file of its own or part of a page. Layers run downwards, so that charts of
// one analysis can stand beside each other on a wide screen and below each other on a narrow one.

namespace matrix::analysis {

/// Layers by steps, from 0 (dark) to `maximum` (pale); a value that is NaN is left grey.
struct HeatMap {
    std::string title;
    const std::vector<std::vector<double>>& values;  ///< [layers][steps]
    const std::vector<std::int64_t>& timesteps;
    double maximum = 0;
    std::vector<std::int64_t> marked;  ///< layers that were chosen
};
[[nodiscard]] std::string heat_map_svg(const HeatMap& map);

/// The largest value of them that is a number; 0 of none.
[[nodiscard]] double largest(const std::vector<std::vector<double>>& values);

/// One analysis in a chart of several.
struct InfluenceSeries {
    std::string label;
    const std::vector<LayerInfluence>& layers;
    std::size_t num_videos = 0;
};
/// Magnitude as bars, frequency in the top 10 as a number beside them, influential layers bold.
[[nodiscard]] std::string influence_svg(const std::string& title,
                                        const std::vector<InfluenceSeries>& series,
                                        const std::vector<std::int64_t>& marked);

/// Gaps of the influential layers, largest separation first.
[[nodiscard]] std::string dominance_svg(const std::string& title,
                                        const std::vector<LayerDominance>& layers);

/// Variance over the prompts in squares of the mean, by layer and logarithmic; dummies grey.
[[nodiscard]] std::string variance_svg(const std::string& title,
                                       const std::vector<LayerVariance>& v2t,
                                       const std::vector<LayerVariance>& v2v);

}  // namespace matrix::analysis
