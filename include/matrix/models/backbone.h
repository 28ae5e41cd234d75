#pragma once

#include "matrix/nn/adaptable.h"
#include "matrix/nn/attention_edit.h"
#include "matrix/nn/recompute.h"
#include "matrix/nn/sequence_group.h"
#include "matrix/nn/tap.h"
#include "matrix/nn/token_layout.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace matrix::models {

/// One forward's input. F latent frames, C input channels (noisy latents, then image latents, then
/// ID-map latents).
struct BackboneInput {
    at::Tensor hidden_states;          ///< [B, F, C, h, w]
    at::Tensor encoder_hidden_states;  ///< [B, L, text width]
    at::Tensor timestep;               ///< [B] int64
    double ofs = 2.0;                  ///< the offset embedding's value, for models that have one
};

/// What a forward does besides its result.
struct ForwardOptions {
    std::map<std::int64_t, nn::Tap> taps;  ///< by block
    /// What each block keeps for backward; the last entry is for all blocks from there on.
    std::vector<nn::Keep> keep = {nn::Keep::kAttention};
    /// The ranks that run this forward together, all on the same input, each with its share of the
    /// rows; null for one rank. Results are whole on every rank. Gradients of what trains are each
    /// rank's share, scaled so that their mean over the group is the gradient.
    const nn::SequenceGroup* sequence = nullptr;
    /// By block, each of which the model has. Only without gradients and on one rank.
    std::map<std::int64_t, nn::AttentionEdit> edits = {};

    [[nodiscard]] nn::Keep kept_by(std::int64_t block) const {
        return keep[std::min(static_cast<std::size_t>(block), keep.size() - 1)];
    }
};

struct BackboneOutput {
    at::Tensor sample;                               ///< [B, F, out channels, h, w]
    std::map<std::int64_t, at::Tensor> tap_outputs;  ///< by block
};

/// All that training, generation and analysis know of a video diffusion transformer.
class Backbone : public nn::Adaptable {
public:
    /// Differentiable in the inputs and in every tensor of its linears that requires a gradient.
    /// RunError if an input's shape does not fit.
    [[nodiscard]] virtual BackboneOutput forward(const BackboneInput& input,
                                                 const ForwardOptions& options) const = 0;

    /// The token layout of latents [F, h, w] with `text_tokens` text rows.
    [[nodiscard]] virtual nn::TokenLayout layout(std::int64_t frames, std::int64_t height,
                                                 std::int64_t width,
                                                 std::int64_t text_tokens) const = 0;

    /// Floating-point operations of one sample's forward and backward under a frozen base: products
    /// and attention, without low-rank deltas, recomputation, and what is cheap beside them.
    [[nodiscard]] virtual double training_flops(const nn::TokenLayout& layout) const = 0;

    [[nodiscard]] virtual at::ScalarType dtype() const = 0;
    [[nodiscard]] virtual at::Device device() const = 0;
};

}  // namespace matrix::models
