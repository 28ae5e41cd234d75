#pragma once

#include "matrix/alignment/config.h"
#include "matrix/train/trainer.h"

#include <cstdint>

// What each loss would be for a model that looks at nothing and always says the same best thing. A
// loss that does not get below its floor has learned nothing of its clips.

namespace matrix::cli::pictures {

/// NaN where a term is off or no clip shows it.
struct Floors {
    /// Variance of the velocity: one constant for each latent channel, all positions, clips and
    /// timesteps.
    double denoise = 0;
    /// The mask loss of one constant logit for each entity and clip, for samples that no dropout
    /// takes out of the term.
    double sga = 0;
    double spa = 0;
};

/// Measured over at most 16 training clips, evenly spread, and 32 timesteps.
[[nodiscard]] Floors measure_floors(const train::RunParts& parts,
                                    const alignment::AlignmentConfig& config);

/// The least mask loss (alignment/losses.h) of a constant logit for an entity with `positives` of
/// `pixels` set.
[[nodiscard]] double constant_mask_loss(std::int64_t positives, std::int64_t pixels,
                                        const alignment::AlignmentConfig& config);

}  // namespace matrix::cli::pictures
