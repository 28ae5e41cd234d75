#pragma once

#include "cli/pictures/attention_maps.h"
#include "cli/pictures/clips.h"
#include "matrix/text/t5_tokenizer.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

// Do the words matter? A map that is drawn from the first frame and the ID map alone does not care
// which phrase stands where.

namespace matrix::cli::pictures {

/// The row with subject and object having changed places in its prompt; each phrase keeps its
/// instance. Nothing where the phrases are the same or overlap. `row` has one interaction, with an
/// object.
[[nodiscard]] std::optional<data_source::Row> swap_roles(const data_source::Row& row,
                                                         const data_cache::DataConfig& data);

/// A clip seen three ways by the trained model. Where a way does not exist its maps are undefined.
struct WordCheck {
    std::string swapped_prompt;
    at::Tensor as_written, swapped, without_id_map;  ///< [3, F, gh, gw] each, of the phrases
};

/// Prompt ids [n, L] to embeddings [n, L, D_t].
using EncodeText = std::function<at::Tensor(const at::Tensor&)>;
[[nodiscard]] WordCheck check_words(const PictureClip& clip, const train::RunParts& parts,
                                    const alignment::AlignmentConfig& config,
                                    const text::T5Tokenizer& tokenizer, const EncodeText& encode);

/// Subject and object of every clip downwards; prompt as written, roles swapped and ID map zeroed
/// to the right, with the scores below each map.
[[nodiscard]] at::Tensor word_check_sheet(const std::vector<PictureClip>& clips,
                                          const std::vector<WordCheck>& checks,
                                          const std::string& lines);

}  // namespace matrix::cli::pictures
