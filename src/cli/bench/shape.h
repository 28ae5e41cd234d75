#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "matrix/models/cogvideox.h"
#include "matrix/nn/token_layout.h"

namespace matrix::cli::bench {

/// The sizes of a CogVideoX image-to-video transformer and of what it is given. Everything that no
/// field says is as in the 5B model.
struct Shape {
    std::int64_t layers = 0;
    std::int64_t heads = 0;
    std::int64_t head_dim = 0;   ///< a multiple of 16
    std::int64_t frames = 0;     ///< latent
    std::int64_t height = 0;     ///< latent rows, even
    std::int64_t width = 0;      ///< latent columns, even
    std::int64_t text = 226;     ///< rows of the prompt
    std::int64_t channels = 32;  ///< of the model's input: 16 of noisy latents, and as many for
                                 ///< each condition
    std::int64_t text_width = 4096;
    std::int64_t time_width = 512;

    [[nodiscard]] std::int64_t dim() const { return heads * head_dim; }
    [[nodiscard]] std::int64_t tokens() const { return text + frames * (height / 2) * (width / 2); }
    [[nodiscard]] models::CogVideoXConfig config() const;
    /// `transformer/config.json` in the Hugging Face layout.
    [[nodiscard]] nlohmann::json config_json() const;
    [[nodiscard]] nlohmann::json json() const;
};

/// Of "layers=6,heads=8,head_dim=64,frames=5,height=30,width=44,text=226,channels=32", where `text`
/// and `channels` may be left out. UsageError naming the part at fault.
[[nodiscard]] Shape parse_shape(const std::string& text);

/// Of a preset of `matrix init`; UsageError for others.
[[nodiscard]] Shape preset_shape(const std::string& preset);

}  // namespace matrix::cli::bench
