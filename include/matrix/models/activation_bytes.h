#pragma once

#include "matrix/nn/recompute.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

// Counted from the op sequence of a block (models/cogvideox/block.cpp) and held against the bytes
// of live tensors by tests.

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

/// What a block that a gradient passes keeps on the device from its forward until its backward. Not
/// for kGraph.
[[nodiscard]] std::int64_t kept_bytes(nn::Keep keep, const BlockSizes& block);

/// The same in the host's memory.
[[nodiscard]] std::int64_t offloaded_bytes(nn::Keep keep, const BlockSizes& block);

/// The most that a block's backward takes at once besides what blocks have kept, its output's
/// gradient and what was offloaded of it included.
[[nodiscard]] std::int64_t backward_bytes(nn::Keep keep, const BlockSizes& block);

/// Blocks of one size, from the lowest that a gradient passes to the last.
struct Activations {
    std::vector<nn::Keep> keep;
    std::int64_t kept = 0;       ///< at the end of the forward
    std::int64_t peak = 0;       ///< the most in backward, with what is kept and what comes back
    std::int64_t offloaded = 0;  ///< at the end of the forward, in the host's memory

    [[nodiscard]] static Activations of(std::vector<nn::Keep> keep, const BlockSizes& block);
};

/// The level for every block. The last block is not offloaded: its backward comes at once.
[[nodiscard]] std::vector<nn::Keep> every_block(nn::Keep keep, std::int64_t num_blocks);

/// The way to keep that runs the least again and takes at most `kept` and `peak` bytes: every block
/// gets a level before one gets the next, the last blocks first. Nothing if none does.
[[nodiscard]] std::optional<Activations> keep_within(
    std::int64_t num_blocks, const BlockSizes& block, std::int64_t kept,
    std::int64_t peak = std::numeric_limits<std::int64_t>::max());

/// The same, but for the last block the highest level, on the device, that takes at most `kept` and
/// `peak` bytes: its backward comes at once, and would make again what it does not keep.
[[nodiscard]] Activations raise_last(const Activations& found, const BlockSizes& block,
                                     std::int64_t kept, std::int64_t peak);

}  // namespace matrix::models
