#include "matrix/models/activation_bytes.h"

#include <algorithm>
#include <utility>

#include "matrix/nn/feed_forward.h"

namespace matrix::models {
namespace {

using nn::Keep;

constexpr std::int64_t kFloatBytes = 4;
constexpr Keep kLevels[] = {Keep::kInput, Keep::kOffloaded, Keep::kAttention, Keep::kRows,
                            Keep::kProducts};

std::int64_t log_sum_exp_bytes(const BlockSizes& block) {
    return block.rows * block.heads * kFloatBytes;
}

std::int64_t low_rank_bytes(const BlockSizes& block) {
    return block.rows * block.low_rank * block.element_size;
}

}  // namespace

std::int64_t kept_bytes(Keep keep, const BlockSizes& block) {
    if (keep == Keep::kOffloaded) {
        return log_sum_exp_bytes(block);
    }
    std::int64_t bytes = block.unit();  // its input
    if (keep >= Keep::kAttention) {
        bytes += block.unit() + log_sum_exp_bytes(block);
    }
    if (keep >= Keep::kRows) {
        bytes += 4 * block.unit();  // q, k, v; the rows between the sublayers
    }
    if (keep >= Keep::kProducts) {
        bytes += 4 * block.unit() + low_rank_bytes(block);  // GELU's input
    }
    return bytes;
}

std::int64_t offloaded_bytes(Keep keep, const BlockSizes& block) {
    return keep == Keep::kOffloaded ? 2 * block.unit() : 0;
}

std::int64_t backward_bytes(Keep keep, const BlockSizes& block) {
    const std::int64_t unit = block.unit();
    const bool has_delta = block.low_rank > 0;
    const std::int64_t chunk =
        nn::FeedForward::chunk_rows(block.rows) * 4 * block.width * block.element_size;
    // The most is held while the feed-forward is differentiated: the gradients of the block's
    // output, of the feed-forward's and of its input, and a chunk of its inner buffer's gradient.
    std::int64_t bytes = 3 * unit + chunk;
    // Run again in any case: rotated q and k, the statistics of four norms, and what deltas read.
    bytes += 2 * unit + 4 * kFloatBytes * block.rows * (1 + block.heads) + (has_delta ? unit : 0);
    if (keep < Keep::kProducts) {
        bytes += unit + chunk;  // the feed-forward's input, a chunk of its inner buffer
    }
    if (keep < Keep::kRows) {
        bytes += 4 * unit + low_rank_bytes(block);  // q, k, v, the rows between the sublayers
    }
    if (keep < Keep::kOffloaded) {
        bytes += unit + log_sum_exp_bytes(block);
    }
    return bytes + offloaded_bytes(keep, block);
}

Activations Activations::of(std::vector<Keep> keep, const BlockSizes& block) {
    Activations result;
    std::int64_t ahead = 0;  // comes back while the block is differentiated
    for (const Keep level : keep) {
        result.kept += kept_bytes(level, block);
        result.peak = std::max(result.peak, result.kept + ahead + backward_bytes(level, block));
        ahead = offloaded_bytes(level, block);
        result.offloaded += ahead;
    }
    result.keep = std::move(keep);
    return result;
}

std::vector<Keep> every_block(Keep keep, std::int64_t num_blocks) {
    std::vector<Keep> levels(static_cast<std::size_t>(num_blocks), keep);
    if (keep == Keep::kOffloaded && num_blocks > 0) {
        levels.back() = Keep::kAttention;
    }
    return levels;
}

std::optional<Activations> keep_within(std::int64_t num_blocks, const BlockSizes& block,
                                       std::int64_t kept, std::int64_t peak) {
    for (std::size_t level = std::size(kLevels); level-- > 0;) {
        const std::int64_t fewest = level == 0 ? num_blocks : 1;
        for (std::int64_t count = num_blocks; count >= fewest; --count) {
            std::vector<Keep> keep = every_block(kLevels[level], num_blocks);
            if (level > 0) {
                std::fill_n(keep.begin(), num_blocks - count, kLevels[level - 1]);
            }
            Activations found = Activations::of(std::move(keep), block);
            if (found.kept <= kept && found.peak <= peak) {
                return found;
            }
        }
    }
    return std::nullopt;
}

Activations raise_last(const Activations& found, const BlockSizes& block, std::int64_t kept,
                       std::int64_t peak) {
    for (std::size_t level = std::size(kLevels);
         level-- > 0 && !found.keep.empty() && kLevels[level] > found.keep.back();) {
        if (kLevels[level] == Keep::kOffloaded) {
            continue;
        }
        std::vector<Keep> keep = found.keep;
        keep.back() = kLevels[level];
        Activations raised = Activations::of(std::move(keep), block);
        if (raised.kept <= kept && raised.peak <= peak) {
            return raised;
        }
    }
    return found;
}

}  // namespace matrix::models
