#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace matrix::data_cache {

/// One clip as training sees it: encoded, and free of every random draw of the step but the choice
/// of the image version. CPU tensors. C = latent channels, F latent frames, h x w latent rows and
/// columns, T = 4 (F - 1) + 1 pixel frames.
struct EncodedSample {
    std::string name;                ///< the row's video, for messages
    at::Tensor video_moments;        ///< [2C, F, h, w] float32: mean, raw log-variance
    at::Tensor image_moments;        ///< [2C, 1, h, w] float32 of the noisy first frame
    at::Tensor image_clean_moments;  ///< [2C, 1, h, w] float32 of the clean first frame; undefined
                                     ///< where encoders run on the fly: training does not use it
    at::Tensor id_map_mean;  ///< [C, 1, h, w] float32, unscaled; undefined without an ID map or
                             ///< without masks
    at::Tensor prompt;       ///< [L, D_t] float32 or bfloat16
    at::Tensor token_mask;   ///< [N, 3, L] uint8: subject, object, verb
    at::Tensor query_mask;   ///< [N, 2, gh, gw] uint8: subject, object
    at::Tensor masks;        ///< [N, 2, T, H, W] uint8: subject, object
};

/// Where the trainer gets its clips from: a prepared cache, or encoders that run on the fly.
/// Thread-safe.
class SampleSource {
public:
    virtual ~SampleSource() = default;
    [[nodiscard]] virtual std::int64_t size() const = 0;
    /// Equal for sources of the same clips in the same order, as far as is known without reading
    /// them: what processes that train together compare.
    [[nodiscard]] virtual std::string fingerprint() const = 0;
    /// Row `index`, with the image noise version chosen by (seed, sample number): a cache picks one
    /// of its stored versions, encoding on the fly draws anew.
    [[nodiscard]] virtual EncodedSample get(std::int64_t index, std::uint64_t seed,
                                            std::uint64_t sample_number) const = 0;
    /// The empty prompt's embedding, [L, D_t].
    [[nodiscard]] virtual at::Tensor empty_prompt() const = 0;
};

}  // namespace matrix::data_cache
