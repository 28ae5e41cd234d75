#pragma once

#include "matrix/models/cogvideox.h"
#include "matrix/models/vae.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace matrix::pipeline {

/// A video in pixels.
struct VideoSize {
    std::int64_t num_frames = 0;
    std::int64_t height_px = 0;
    std::int64_t width_px = 0;
};

/// Latents [F, h, w] of a video. A model with temporal patches (1.5) wants F to divide by them:
/// `padding` latent frames stand before the video's own and are dropped before decoding.
struct LatentSize {
    std::int64_t num_frames = 0;  ///< with the padding
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::int64_t padding = 0;
};

/// The configs of a model that decide what sizes it can make.
struct SizeRules {
    models::CogVideoXConfig transformer;
    models::VaeConfig vae;
};

/// Of a Hugging Face CogVideoX directory; RunError naming the file and field at fault.
[[nodiscard]] SizeRules read_size_rules(const std::filesystem::path& model);

/// What the transformer's config was made for, as the reference's pipelines default to; 768 x 1360
/// for 1.5, whose config names no size that anybody generates at (300 x 300 latents): the authors'
/// own choice for it.
[[nodiscard]] VideoSize default_size(const SizeRules& rules);

/// 8, and 16 for models with temporal patches: the rates that the authors train at.
[[nodiscard]] double default_fps(const SizeRules& rules);

/// One line for each of frames, height and width that the model cannot make, with the nearest that
/// it can. The number of frames is 8k + 1 (with the usual ratio of 4): the decoder gives back as
/// many frames as were asked for only from an odd number of latent frames. Height and width are
/// multiples of 16 (a latent is 8 pixels, a token 2 latents); a learned position table allows one
/// size alone, and the table of 1.5 ends at the config's sample size.
[[nodiscard]] std::vector<std::string> check_size(const VideoSize& size, const SizeRules& rules);

/// Of a size that passes `check_size`.
[[nodiscard]] LatentSize latent_size(const VideoSize& size, const SizeRules& rules);

}  // namespace matrix::pipeline
