#pragma once

#include "matrix/analysis/record.h"
#include "matrix/analysis/summary.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

// What an analysis leaves for other programs. CSV after RFC 4180, numbers unrounded, NaN empty.

namespace matrix::analysis {

/// video, entity, word, kind, path, range, step, timestep, layer and the eight metrics: one row for
/// each entity, step, layer, and for v2v each range.
[[nodiscard]] std::string scores_csv(const std::vector<VideoRecord>& records);

/// layer, frequency, magnitude, frequency_rank, magnitude_rank, rank_sum, influential, dummy.
[[nodiscard]] std::string influence_csv(const VariantSummary& summary);
/// layer, gap_success, gap_failure, separation, dominant.
[[nodiscard]] std::string dominance_csv(const VariantSummary& summary);
/// layer, mean, variance, dummy.
[[nodiscard]] std::string variance_csv(const VariantSummary& summary);

/// Everything but the maps: `clips`, `variants`, `layers`.
[[nodiscard]] nlohmann::ordered_json summary_json(const std::vector<VideoRecord>& records,
                                                  const Summary& summary);

}  // namespace matrix::analysis
