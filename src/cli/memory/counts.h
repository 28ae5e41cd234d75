#pragma once

#include <cstdint>
#include <string>

#include "cli/run_config.h"
#include "matrix/models/activation_bytes.h"
#include "matrix/models/cogvideox.h"

// What a run holds on its device, part by part, counted from configurations alone.

namespace matrix::cli {

/// Sizes of one step of the run on one rank.
struct Sizes {
    std::int64_t batch, frames, text_rows, tokens, width, heads, dtype_bytes, context;
    [[nodiscard]] std::int64_t rows() const {
        return batch * ((text_rows + tokens + context - 1) / context);
    }
    /// One tensor [B, S, D], or of the rank's share of the rows.
    [[nodiscard]] std::int64_t unit() const { return rows() * width * dtype_bytes; }
};

[[nodiscard]] Sizes sizes_of(const RunConfig& config, const models::CogVideoXConfig& model);

/// The blocks that a gradient passes, from the lowest that trains to the last.
[[nodiscard]] std::int64_t blocks_with_backward(const RunConfig& config,
                                                const models::CogVideoXConfig& model);

/// One of `blocks`; low-rank deltas, which some have, as their mean.
[[nodiscard]] models::BlockSizes block_sizes(const RunConfig& config, const Sizes& sizes,
                                             std::int64_t blocks);

/// The frozen base, counted through the model's own constructor.
struct BaseWeights {
    std::int64_t elements = 0;
    std::int64_t in_blocks = 0;   ///< of them
    std::int64_t modulating = 0;  ///< of those, what makes shifts, scales and gates
    std::int64_t feeding = 0;     ///< of those, the matrices of the feed-forwards
    std::int64_t num_blocks = 0;

    explicit BaseWeights(const models::CogVideoXConfig& model);

    /// At rest, on a rank of `sharing_ranks` that share the blocks out. Streamed or shared out,
    /// some blocks' worth are on the device at a time.
    [[nodiscard]] std::int64_t bytes(const std::string& base, std::int64_t dtype_bytes,
                                     std::int64_t sharing_ranks) const;
    /// Of the block that is differentiated, where it rests in float8. What modulates it is not
    /// kept; with float8 products only the feed-forward is wide while it is differentiated.
    [[nodiscard]] std::int64_t widened_bytes(const std::string& base, bool fp8_matmul,
                                             std::int64_t dtype_bytes) const;
};

/// What trains, float32 elements.
struct Trained {
    std::int64_t lora = 0, projection = 0, heads = 0;

    Trained(const RunConfig& config, const models::CogVideoXConfig& model);
    [[nodiscard]] std::int64_t elements() const { return lora + projection + heads; }
};

/// Bytes beside weights, what trains and what blocks keep.
struct Beside {
    std::int64_t ends = 0;  ///< rows after the last block, until its backward
    std::int64_t alignment =
        0;                     ///< mask heads and losses, an entity at a time, before the backward
    std::int64_t readout = 0;  ///< of probabilities, in the backward of its block
    std::int64_t batch = 0;    ///< latents, noise, prompts and masks of a step
    std::int64_t vae = 0;      ///< where clips are encoded beside the steps

    Beside(const RunConfig& config, const models::CogVideoXConfig& model, const Sizes& sizes);
};

/// Bytes of the text encoder's and the VAE's weights; 0 for one that is not there.
[[nodiscard]] std::int64_t text_encoder_bytes(const RunConfig& config);
[[nodiscard]] std::int64_t vae_bytes(const RunConfig& config);

}  // namespace matrix::cli
