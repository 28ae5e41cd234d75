#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "matrix/alignment/scores.h"

namespace matrix::train {

/// What one validation forward comes to.
struct ClipScores {
    double loss_denoise = 0.0;
    std::map<std::int64_t, alignment::BlockScores> blocks;
};

/// Scores by row, each at every validation timestep.
using RowScores = std::map<std::int64_t, std::vector<ClipScores>>;

/// As text and back, bit for bit.
[[nodiscard]] std::string encode_scores(const RowScores& rows);
[[nodiscard]] RowScores decode_scores(const std::string& text);

}  // namespace matrix::train
