#pragma once

#include "matrix/alignment/config.h"
#include "matrix/data_cache/sample.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/models/backbone.h"
#include "matrix/train/batch.h"
#include "matrix/train/trainer.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <vector>

namespace matrix::train {

/// The timesteps at which clips are scored.
[[nodiscard]] const std::vector<std::int64_t>& validation_timesteps();

/// A clip as validation sees it: no dropout, and noise that depends on (seed, row, timestep) alone,
/// so that scores of different steps differ by the weights and nothing else.
[[nodiscard]] Batch validation_batch(const data_cache::SampleSource& samples, std::int64_t row,
                                     const BatchRules& rules, std::int64_t timestep);

/// Rows that are scored: at most 16, evenly spread.
[[nodiscard]] std::vector<std::int64_t> validation_rows(std::int64_t size);

/// Denoising loss and the head-free attention scores (alignment/scores.h) at the validation
/// timesteps: `loss_denoise`, and for each term that is on `auc_`, `bind_`, `enrich_` and `aas_`
/// with `v2t` or `v2v` (means over the term's blocks), each block's under `blocks`; a score that no
/// clip defines is null. All ranks call it, each scores its share of the clips, and all get the
/// same result: with `parallel.context` 1 in the bits that one rank would get with these weights.
[[nodiscard]] nlohmann::json validate(const RunParts& parts,
                                      const alignment::AlignmentConfig& config,
                                      const data_cache::SampleSource& samples);

/// The same of a run's training clips and, where there are any, of its held-out ones: `train`,
/// `heldout`.
[[nodiscard]] nlohmann::json validate_sets(const RunParts& parts,
                                           const alignment::AlignmentConfig& config,
                                           const data_cache::SampleSource* held_out);

}  // namespace matrix::train
