#pragma once

#include "matrix/nn/token_layout.h"

#include <ATen/core/Tensor.h>

#include <concepts>
#include <functional>
#include <utility>

namespace matrix::nn {

/// What an attention layer shows to a tap: queries and keys after norm and RoPE, [B, heads, S,
/// head_dim], and the attention's log-sum-exp over keys, [B, heads, S] float32, natural log of sum
/// exp(q k / sqrt(head_dim)). `log_sum_exp` is data without gradient (fused kernels return it so);
/// a tap that needs its gradient forms it from q and k.
struct TapInput {
    const at::Tensor& query;
    const at::Tensor& key;
    const at::Tensor& log_sum_exp;
    const TokenLayout& layout;
};

/// A pure function of its input to one small tensor, which leaves the block as an extra output.
/// Blocks may be run again in backward, so a tap has no state and no side effect. An empty tap
/// costs nothing.
struct Tap {
    /// How its outputs for equal groups of the heads make that for all: their mean, or, of logs,
    /// the log of the mean.
    enum class OverHeads { kMean, kLogMean };

    std::function<at::Tensor(const TapInput&)> read;
    OverHeads over_heads = OverHeads::kMean;

    Tap() = default;
    template <typename F>
    requires std::invocable<F, const TapInput&> Tap(
        F function, OverHeads heads = OverHeads::kMean)  // NOLINT: a lambda is a tap
        : read(std::move(function)), over_heads(heads) {}

    explicit operator bool() const { return static_cast<bool>(read); }
    at::Tensor operator()(const TapInput& input) const { return read(input); }
};

}  // namespace matrix::nn
