#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "matrix/models/cogvideox.h"
#include "matrix/nn/adaptive_norm.h"
#include "matrix/nn/attention_edit.h"
#include "matrix/nn/feed_forward.h"
#include "matrix/nn/joint_attention.h"
#include "matrix/nn/recompute.h"
#include "matrix/nn/sequence.h"
#include "matrix/nn/tap.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::models {

/// What all blocks of one forward share.
struct BlockContext {
    at::Tensor
        silu_embedding;   ///< [B, E] SiLU of the time (and ofs) embedding, in the compute dtype
    at::Tensor rotation;  ///< complex64 [video rows of this rank, 1, head_dim / 2], or undefined
    nn::JointRows rows;
};

/// One CogVideoX block over the joint [B, S, D] sequence, text rows first, or over a rank's rows of
/// it.
struct CogVideoXBlock {
    CogVideoXBlock(const CogVideoXConfig& config, const std::string& prefix,
                   tensor_io::WeightSource& weights);

    /// {x'}, or {x', tap output} with a tap. Pure. While the memo is recomputing, x' is a shape
    /// alone.
    [[nodiscard]] std::vector<at::Tensor> run(const at::Tensor& x, const BlockContext& context,
                                              const nn::Tap& tap, const nn::AttentionEdit& edit,
                                              nn::RecomputeMemo& memo) const;

    /// The tensors that no adapter touches, in a fixed order: what BlockWeights hold.
    [[nodiscard]] std::vector<at::Tensor> weights() const;
    /// This block with others in their place, and the scales of those in float8, if there are any.
    [[nodiscard]] CogVideoXBlock with_weights(const std::vector<at::Tensor>& weights,
                                              const std::vector<at::Tensor>& scales = {}) const;

    /// The tensors of this block that require a gradient.
    [[nodiscard]] std::vector<at::Tensor> trainable() const;

    nn::AdaptiveNorm norm1;
    nn::JointAttention attn1;
    nn::AdaptiveNorm norm2;
    nn::FeedForward ff;

private:
    struct Slot {
        at::Tensor* tensor;
        at::Tensor* scale;  ///< null where there can be none
    };
    [[nodiscard]] std::vector<Slot> weight_slots();
};

}  // namespace matrix::models
