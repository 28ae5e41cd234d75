#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/data_source/clip.h"
#include "matrix/data_source/manifest.h"
#include "matrix/text/t5_tokenizer.h"

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

// N interactions, T frames of H x W pixels, gh = H / 16, gw = W / 16.

namespace matrix::data_source {

/// A row's words as the text encoder and the alignment see them.
struct RowText {
    std::string prompt;     ///< what is tokenised: without ID markers if data.strip_id_markers
    at::Tensor input_ids;   ///< [226] int64
    at::Tensor token_mask;  ///< [N, 3, 226] uint8: subject, object, verb
    std::vector<std::string> notes;  ///< phrases that the token limit cut off, one line each
};

/// RunError with every fault of the row: a phrase that does not occur, or occurs twice without
/// `start`.
[[nodiscard]] RowText read_text(const Row& row, const data_cache::DataConfig& config,
                                const text::T5Tokenizer& tokenizer);

/// The prompt as it is tokenised.
[[nodiscard]] std::string prompt_text(const Row& row, const data_cache::DataConfig& config);

/// Takes the verb's tokens out of `token_mask` [N, 3, 226] where a named subject or object has no
/// pixel in its track. `ids` and `pixels` go together: set pixels of the track of that ID over the
/// frames used, after the crop.
void drop_verbs_without_masks(at::Tensor& token_mask, const std::vector<Interaction>& interactions,
                              const std::vector<std::int64_t>& ids,
                              const std::vector<std::int64_t>& pixels);

/// One training sample before any encoder and any draw.
struct RawSample {
    std::string name;        ///< the video, relative to the data set
    at::Tensor video;        ///< [3, T, H, W] float32 in [-1, 1]
    at::Tensor id_map;       ///< [3, H, W] float32 in [-1, 1]; undefined without data.id_map
    bool has_masks = false;  ///< without masks the ID map's latent is zero, whatever `id_map` shows
    std::string prompt;
    at::Tensor input_ids;   ///< [226] int64
    at::Tensor token_mask;  ///< [N, 3, 226] uint8: subject, object, verb
    at::Tensor masks;       ///< [N, 2, T, H, W] uint8: subject, object
    at::Tensor query_mask;  ///< [N, 2, gh, gw] uint8: first-frame cells of subject, object
    std::vector<std::string> notes;
};

/// `nearest_query`: alignment.spa.query = "nearest". RunError with the faults of `load_clip` and
/// `read_text`.
[[nodiscard]] RawSample load_sample(const Row& row, const data_cache::DataConfig& config,
                                    const text::T5Tokenizer& tokenizer, bool nearest_query);

}  // namespace matrix::data_source
