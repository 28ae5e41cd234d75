#pragma once

#include <cstdint>
#include <vector>

#include "cli/bench/shape.h"
#include "matrix/lora/config.h"
#include "matrix/nn/recompute.h"

namespace matrix::cli::bench {

/// Floating-point operations of a step, counted from shapes: products and attention of the
/// transformer and its low-rank deltas, a multiply and an add as two. Heads, readouts and what is
/// elementwise are not in them.
struct Flop {
    double forward = 0.0;
    double backward = 0.0;    ///< what a frozen base needs: no gradients of its weights
    double recomputed = 0.0;  ///< of the forward, run again in backward

    [[nodiscard]] double total() const { return forward + backward + recomputed; }
};

/// `keep` is each block's.
[[nodiscard]] Flop step_flop(const Shape& shape, const lora::LoraConfig& lora, std::int64_t batch,
                             const std::vector<nn::Keep>& keep);

}  // namespace matrix::cli::bench
