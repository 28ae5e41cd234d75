#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "matrix/models/cogvideox.h"
#include "matrix/nn/linear.h"
#include "matrix/nn/recompute.h"
#include "matrix/nn/tap.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::models {

/// What all blocks of one forward share.
struct BlockContext {
    at::Tensor silu_emb;   ///< [B, E] SiLU of the time (and ofs) embedding, in the compute dtype
    at::Tensor rotation;   ///< complex64 [video tokens, 1, head_dim / 2], or undefined
    nn::TokenLayout layout;
};

struct LayerNormWeights {
    at::Tensor weight;  ///< [D], or undefined without affine parameters
    at::Tensor bias;
};

/// One CogVideoX block over the joint [B, S, D] sequence, text rows first.
class CogVideoXBlock {
public:
    CogVideoXBlock(const CogVideoXConfig& config, const std::string& prefix, tensor_io::WeightSource& weights);

    /// {x'} or {x', tap output}. Pure; `keep_hidden` keeps the feed-forward's inner buffer for backward.
    [[nodiscard]] std::vector<at::Tensor> run(const at::Tensor& x, const BlockContext& context, const nn::Tap& tap,
                                              bool keep_hidden, nn::RecomputeMemo& memo) const;

    /// The tensors of this block that require a gradient.
    [[nodiscard]] std::vector<at::Tensor> trainable() const;

    nn::Linear to_q, to_k, to_v, to_out;

private:
    [[nodiscard]] std::vector<at::Tensor> attend(const at::Tensor& x, const BlockContext& context,
                                                 const nn::Tap& tap, nn::RecomputeMemo& memo) const;

    std::int64_t heads_;
    double norm_eps_;
    nn::Linear modulation1_, modulation2_;
    LayerNormWeights norm1_, norm2_;
    at::Tensor norm_q_weight_, norm_q_bias_, norm_k_weight_, norm_k_bias_;
    nn::Linear ff_in_, ff_out_;
};

}  // namespace matrix::models
