#pragma once

#include "matrix/nn/linear.h"
#include "matrix/nn/tap.h"
#include "matrix/nn/token_layout.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

namespace matrix::models {

/// One forward's input. F latent frames, C input channels (noisy latents, then image latents, then ID-map latents).
struct BackboneInput {
    at::Tensor hidden_states;          ///< [B, F, C, h, w]
    at::Tensor encoder_hidden_states;  ///< [B, L, text width]
    at::Tensor timestep;               ///< [B] int64
    double ofs = 2.0;                  ///< the offset embedding's value, for models that have one
};

/// What a forward does besides its result.
struct ForwardOptions {
    std::map<std::int64_t, nn::Tap> taps;  ///< by block
    bool checkpointing = true;             ///< blocks keep input, attention output and log-sum-exp alone
};

struct BackboneOutput {
    at::Tensor sample;                           ///< [B, F, out channels, h, w]
    std::map<std::int64_t, at::Tensor> tap_outputs;  ///< by block
};

/// All that training, generation and analysis know of a video diffusion transformer.
class Backbone {
public:
    virtual ~Backbone() = default;

    /// Differentiable in the inputs and in every tensor of its linears that requires a gradient. RunError if an input's
    /// shape does not fit.
    [[nodiscard]] virtual BackboneOutput forward(const BackboneInput& input, const ForwardOptions& options) const = 0;

    /// The token layout of latents [F, h, w] with `text_tokens` text rows.
    [[nodiscard]] virtual nn::TokenLayout layout(std::int64_t frames, std::int64_t height, std::int64_t width,
                                                 std::int64_t text_tokens) const = 0;

    [[nodiscard]] virtual std::int64_t num_blocks() const = 0;
    [[nodiscard]] virtual std::int64_t in_channels() const = 0;
    [[nodiscard]] virtual at::ScalarType dtype() const = 0;
    [[nodiscard]] virtual at::Device device() const = 0;

    /// The patch embedding's projection, under the checkpoint key "patch_embed.proj".
    [[nodiscard]] virtual nn::Linear& input_projection() = 0;
    /// The linears a low-rank delta may sit on, by checkpoint key without ".weight".
    [[nodiscard]] virtual std::map<std::string, nn::Linear*> adaptable_linears() = 0;
    /// Grows the input projection to `channels` input channels; the added weights are zero, so that the model computes
    /// exactly what it did.
    virtual void widen_input(std::int64_t channels) = 0;
};

}  // namespace matrix::models
