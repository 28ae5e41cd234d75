#pragma once

#include "matrix/nn/token_layout.h"

#include <ATen/core/Tensor.h>

#include <functional>

namespace matrix::nn {

/// What an attention layer has when it is done: queries and keys after norm and RoPE, values and
/// the output softmax(q k^T / sqrt(head_dim)) v, all [B, heads, S, head_dim], and the log-sum-exp
/// of a tap's input, [B, heads, S] float32 (float64 for float64 queries).
struct AttentionEditInput {
    const at::Tensor& query;
    const at::Tensor& key;
    const at::Tensor& value;
    const at::Tensor& log_sum_exp;
    const at::Tensor& output;
    const TokenLayout& layout;
};

/// A pure function to the output that takes the place of attention's own, of its shape and dtype,
/// before the output projection. For inference on one rank: nothing is said of gradients. An empty
/// edit costs nothing.
using AttentionEdit = std::function<at::Tensor(const AttentionEditInput&)>;

}  // namespace matrix::nn
