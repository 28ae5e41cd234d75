#pragma once

#include "matrix/nn/adaptive_norm.h"
#include "matrix/nn/attention_edit.h"
#include "matrix/nn/linear.h"
#include "matrix/nn/recompute.h"
#include "matrix/nn/sequence.h"
#include "matrix/nn/tap.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace matrix::nn {

/// Self-attention over the joint sequence: q and k are normalised per head, rotated on video rows,
/// and shown to a tap; an edit may replace what attention gives.
struct JointAttention {
    std::int64_t heads = 0;
    Linear to_q, to_k, to_v, to_out;
    LayerNorm norm_q, norm_k;  ///< over head_dim

    struct Output {
        at::Tensor rows;  ///< [B, R, D]
        at::Tensor tap;   ///< what the tap gave, or undefined
    };
    /// x [B, R, D], the rows that this rank holds, all S of them for one rank; `rotation` complex64
    /// [video rows among them, 1, head_dim / 2] or undefined. The linears' weights are frozen.
    [[nodiscard]] Output operator()(at::Tensor x, const at::Tensor& rotation, const JointRows& rows,
                                    const Tap& tap, const AttentionEdit& edit,
                                    RecomputeMemo& memo) const;
};

}  // namespace matrix::nn
