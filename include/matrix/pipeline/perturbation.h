#pragma once

#include "matrix/nn/attention_edit.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

namespace matrix::pipeline {

/// The perturbed pass of the training-free guidances CMG and CAG (paper, appendix E): the
/// conditional prediction once more, with entries of some blocks' attention probabilities set to
/// zero after the softmax, not renormalised. Where a block is in both lists, both are.
struct Perturbation {
    double scale = 1.0;  ///< s in v + s (v - v_perturbed); the pass is not run at 0
    /// Blocks without the video-to-text entries of `grounding` (CMG).
    std::vector<std::int64_t> cmg_blocks;
    /// Blocks without the video-to-video entries of different latent frames (CAG).
    std::vector<std::int64_t> cag_blocks;
    /// Which entries CMG removes, the union over the entities: [video tokens, text tokens] bool, or
    /// [1, text tokens] for all video queries. On the backbone's device.
    at::Tensor grounding;

    [[nodiscard]] bool runs() const {
        return scale != 0.0 && !(cmg_blocks.empty() && cag_blocks.empty());
    }
    /// By block; of a batch only what stands from `begin` on is changed.
    [[nodiscard]] std::map<std::int64_t, nn::AttentionEdit> edits(std::int64_t begin) const;
};

/// Attention's output [B, heads, S, head_dim] without the entries of `grounding`: minus their
/// contribution, formed from q, k and the row's log-sum-exp, so many heads at a time.
[[nodiscard]] at::Tensor without_grounding(const nn::AttentionEditInput& attention,
                                           const at::Tensor& grounding);

/// The same without the entries of video queries and video keys of different frames: what is kept,
/// text and a query's own frame, is fused attention of its own, brought from its own log-sum-exp
/// to the whole row's.
[[nodiscard]] at::Tensor without_other_frames(const nn::AttentionEditInput& attention);

}  // namespace matrix::pipeline
