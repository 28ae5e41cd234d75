#pragma once

#include "matrix/nn/sequence_group.h"
#include "matrix/nn/token_layout.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

// Context parallelism as in DeepSpeed-Ulysses (arXiv 2309.14509): each of n ranks holds a range of
// R = ceil(S / n) rows of the joint sequence, and for attention exchanges them for all S rows of
// its H / n heads. The last ranges may be short or empty; zeros fill them up to R.
//
// Every rank of the group differentiates the same loss, so what is gathered carries its gradient
// times n: each rank's gradients are then n times its share, and their mean over the group is the
// whole.
//
// Letters: B batch, S joint rows, R rows of a rank, H heads, d head_dim, n ranks.

namespace matrix::nn {

/// The rows that one rank runs.
struct JointRows {
    TokenLayout layout;                    ///< of the whole sequence
    std::int64_t rows = 0;                 ///< R
    std::int64_t text_rows = 0;            ///< how many of them, from the first, are text
    const SequenceGroup* group = nullptr;  ///< null: the rank holds all rows

    /// All rows of `layout`, or this rank's share of them.
    [[nodiscard]] static JointRows of(const TokenLayout& layout, const SequenceGroup* group);
    /// First of the rows in the whole sequence.
    [[nodiscard]] std::int64_t begin() const { return group == nullptr ? 0 : group->rank() * rows; }
};

/// Differentiable in x. Own range of dimension `dim` of a tensor that all ranks hold.
[[nodiscard]] at::Tensor own_rows(const at::Tensor& x, std::int64_t dim, const JointRows& rows);
/// [B, R, ...] of every rank, as [B, S, ...].
[[nodiscard]] at::Tensor all_rows(const at::Tensor& x, const JointRows& rows);
/// Own rows of all heads [B, R, H, d] to all rows of own heads [B, S, H / n, d]; H must divide.
[[nodiscard]] at::Tensor rows_to_heads(const at::Tensor& x, const JointRows& rows);
/// The way back, [B, S, H / n, d] to [B, R, H, d].
[[nodiscard]] at::Tensor heads_to_rows(const at::Tensor& x, const JointRows& rows);
/// Every rank's [...], as [n, ...].
[[nodiscard]] at::Tensor of_all_ranks(const at::Tensor& x, const SequenceGroup& group);

}  // namespace matrix::nn
