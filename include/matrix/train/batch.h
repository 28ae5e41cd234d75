#pragma once

#include "matrix/alignment/objective.h"
#include "matrix/data_cache/sample.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace matrix::train {

/// What is said of a batch after its step: small, and kept when the tensors are gone.
struct BatchFacts {
    std::vector<std::string> names;  ///< the clips, for messages
    std::vector<std::int64_t> sample_numbers;
    at::Tensor timestep;  ///< [B] int64, CPU
    std::int64_t images_dropped = 0;
    std::int64_t captions_dropped = 0;
    std::int64_t id_maps_dropped = 0;
};

/// Everything random of a step is in here already: a step is a function of its batches and the
/// weights. CPU tensors; B batch, F latent frames, h x w latents, L text rows, D_t text width.
struct Batch : BatchFacts {
    at::Tensor latents;         ///< [B, F, C, h, w] float32, x0, scaled
    at::Tensor noise;           ///< [B, F, C, h, w] float32
    at::Tensor image_latents;   ///< [B, F, C, h, w] float32, scaled, zero after the first frame
    at::Tensor id_map_latents;  ///< the same, or undefined for models without an ID map
    at::Tensor encoder_hidden_states;  ///< [B, L, D_t]
    alignment::Supervision supervision;
};

/// What turns an encoded clip into a sample of a step, besides the clip.
struct BatchRules {
    std::uint64_t seed = 0;
    double scaling_factor = 1.0;
    bool invert_scale_latents =
        false;  ///< image and ID-map latents are divided by the factor (1.5)
    bool id_map = false;
    std::int64_t temporal_patch = 1;  ///< latent frames are padded in front to a multiple
    std::int64_t num_timesteps = 1000;
    double image_dropout = 0.0;
    double caption_dropout = 0.0;
    double id_map_dropout = 0.0;
};

/// Draws keyed by (seed, purpose, sample number) alone: posterior samples, noise, timestep,
/// dropouts. A dropped image takes the sample out of SGA and SPA, a dropped caption (the empty
/// prompt) out of SGA; both are counted. `numbers[i]` is the sample number of `samples[i]`.
[[nodiscard]] Batch make_batch(const std::vector<data_cache::EncodedSample>& samples,
                               const std::vector<std::int64_t>& numbers,
                               const at::Tensor& empty_prompt, const BatchRules& rules);

/// Row of the data set that sample `number` is: an endless stream of permutations, one an epoch,
/// keyed by (seed, epoch).
class SampleOrder {
public:
    SampleOrder(std::int64_t size, std::uint64_t seed) : size_(size), seed_(seed) {}
    [[nodiscard]] std::int64_t row(std::int64_t number);

private:
    std::int64_t size_;
    std::uint64_t seed_;
    std::int64_t epoch_ = -1;
    std::vector<std::int64_t> permutation_;
};

}  // namespace matrix::train
