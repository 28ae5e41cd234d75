#include "matrix/models/activation_bytes.h"

#include <algorithm>
#include <utility>

#include "matrix/nn/feed_forward.h"

namespace matrix::models {
namespace {

constexpr std::int64_t kFloatBytes = 4;
constexpr nn::Keep kLevels[] = {nn::Keep::kInput, nn::Keep::kAttention, nn::Keep::kRows,
                                nn::Keep::kProducts};

std::int64_t log_sum_exp_bytes(const BlockSizes& block) {
    return block.rows * block.heads * kFloatBytes;
}

std::int64_t low_rank_bytes(const BlockSizes& block) {
    return block.rows * block.low_rank * block.element_size;
}

}  // namespace

std::int64_t kept_bytes(nn::Keep keep, const BlockSizes& block) {
    std::int64_t bytes = block.unit();  // its input
    if (keep >= nn::Keep::kAttention) {
        bytes += block.unit() + log_sum_exp_bytes(block);
    }
    if (keep >= nn::Keep::kRows) {
        bytes += 4 * block.unit();  // q, k, v; the rows between the sublayers
    }
    if (keep >= nn::Keep::kProducts) {
        bytes += 4 * block.unit() + low_rank_bytes(block);  // GELU's input
    }
    return bytes;
}

std::int64_t backward_bytes(nn::Keep keep, const BlockSizes& block) {
    const std::int64_t chunk =
        nn::FeedForward::chunk_rows(block.rows) * 4 * block.width * block.element_size;
    std::int64_t bytes = 10 * block.unit() + 3 * chunk;
    if (keep == nn::Keep::kInput) {
        bytes += block.unit() + log_sum_exp_bytes(block);
    }
    return bytes;
}

Activations Activations::of(std::vector<nn::Keep> keep, const BlockSizes& block) {
    Activations result;
    for (const nn::Keep level : keep) {
        result.kept += kept_bytes(level, block);
        result.peak = std::max(result.peak, result.kept + backward_bytes(level, block));
    }
    result.keep = std::move(keep);
    return result;
}

Activations keep_within(std::int64_t num_blocks, const BlockSizes& block, std::int64_t kept,
                        std::int64_t peak) {
    for (std::size_t level = std::size(kLevels); level-- > 0;) {
        const std::int64_t fewest = level == 0 ? num_blocks : 1;
        for (std::int64_t count = num_blocks; count >= fewest; --count) {
            std::vector<nn::Keep> keep(static_cast<std::size_t>(num_blocks), kLevels[level]);
            if (level > 0) {
                std::fill_n(keep.begin(), num_blocks - count, kLevels[level - 1]);
            }
            Activations found = Activations::of(std::move(keep), block);
            if (found.kept <= kept && found.peak <= peak) {
                return found;
            }
        }
    }
    return {};
}

}  // namespace matrix::models
