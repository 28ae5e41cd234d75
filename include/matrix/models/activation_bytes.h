#pragma once

#include "matrix/nn/recompute.h"

#include <cstdint>
#include <vector>

namespace matrix::models {

/// A block's activations on one rank, as far as their bytes go.
struct BlockSizes {
    std::int64_t rows = 0;  ///< B S, or the rank's share of them
    std::int64_t width = 0;
    std::int64_t heads = 0;
    std::int64_t element_size = 0;  ///< of the compute dtype
    std::int64_t low_rank = 0;      ///< ranks of its low-rank deltas, summed

    /// One [B, S, D].
    [[nodiscard]] std::int64_t unit() const { return rows * width * element_size; }
};

/// What a block that a gradient passes keeps from its forward until its backward. Not for kGraph.
[[nodiscard]] std::int64_t kept_bytes(nn::Keep keep, const BlockSizes& block);

/// The most that a block's backward takes at once besides what was kept, the gradient that it hands
/// on included.
[[nodiscard]] std::int64_t backward_bytes(nn::Keep keep, const BlockSizes& block);

/// What each of `num_blocks` blocks of one size may keep so that all of it fits in `budget` bytes
/// and the least is run again: a level is given to all blocks before the next is begun. Empty if
/// not even their inputs fit.
[[nodiscard]] std::vector<nn::Keep> keep_within(std::int64_t budget, std::int64_t num_blocks,
                                                const BlockSizes& block);

}  // namespace matrix::models
