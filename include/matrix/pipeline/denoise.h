#pragma once

#include "matrix/diffusion/sampler.h"
#include "matrix/models/backbone.h"
#include "matrix/nn/tap.h"
#include "matrix/pipeline/perturbation.h"

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>

namespace matrix::pipeline {

/// What a video is made from, all of one dtype: B videos of F latent frames, C latent channels.
struct Conditions {
    at::Tensor image_latents;  ///< [B, F, C, h, w], scaled, zeros behind the first frame; undefined
                               ///< for a text-to-video model
    at::Tensor id_map_latents;   ///< [B, F, C, h, w], for a model with 3 C input channels
    at::Tensor prompt;           ///< [B, L, text width]
    at::Tensor negative_prompt;  ///< the same; undefined without guidance
};

struct Guidance {
    double scale = 6.0;    ///< classifier-free guidance runs above 1, whatever becomes of the scale
    bool dynamic = false;  ///< diffusion::dynamic_guidance
    /// All passes in one forward; else one after the other, in the memory of one.
    bool batched = true;
    Perturbation perturbation = {};

    [[nodiscard]] bool runs() const { return scale > 1.0; }
};

/// Reads the attention of every step, of the pass with the prompt alone: each tap sees B rows, as
/// it would without guidance. Changes nothing.
struct AttentionListener {
    std::map<std::int64_t, nn::Tap> taps;  ///< by block
    std::function<void(std::size_t step, std::int64_t timestep,
                       const std::map<std::int64_t, at::Tensor>& tap_outputs)>
        heard;
};

/// A standard normal tensor like the latents, for a step that draws; see Sampler::step.
using DrawNoise = std::function<at::Tensor(std::size_t step)>;

/// The loop of `CogVideoXImageToVideoPipeline`: from noise [B, F, C, h, w] in the dtype of the
/// conditions to latents of the same shape. With v_n of the negative prompt, v of the prompt
/// and v_p of the prompt in the perturbed pass, which stand in a batch in this order, a step's v is
/// v_n + scale (v - v_n) + perturbation.scale (v - v_p), or v + perturbation.scale (v - v_p)
/// without classifier-free guidance. The condition on image and ID map stands in all passes; v is
/// brought to float32 before they meet, and latents back to their dtype after every step. Without
/// gradient. `done` is told the number of steps taken, `listener`, where there is one, what its
/// taps gave. RunError where a shape does not fit the model.
[[nodiscard]] at::Tensor denoise(const models::Backbone& backbone,
                                 const diffusion::Sampler& sampler, const at::Tensor& noise,
                                 const Conditions& conditions, const Guidance& guidance,
                                 const DrawNoise& draw,
                                 const std::function<void(std::int64_t steps)>& done = {},
                                 const AttentionListener* listener = nullptr);

}  // namespace matrix::pipeline
