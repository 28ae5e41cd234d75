#pragma once

#include "matrix/data_source/manifest.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

// N interactions, L text rows, T frames of H x W pixels, F x gh x gw video cells.

namespace matrix::analysis {

/// What attention is asked about: a noun is an instance, a verb the place where its subject and
/// object are (paper section 4.2).
struct Entity {
    std::string name;  ///< "id1" of an instance, "verb1" of the first interaction's verb
    std::string word;  ///< its phrase in the prompt
    bool verb = false;
    at::Tensor tokens;      ///< [L] bool
    at::Tensor cells;       ///< [F, gh, gw] bool, alignment::latent_mask; a verb's are the union
    at::Tensor track = {};  ///< [T, H, W] uint8, the mask they come from; a record's has none

    [[nodiscard]] bool has_tokens() const;
    [[nodiscard]] bool has_first_cells() const;  ///< in frame 0, where propagation starts
};

/// The entities of one clip. An instance that has one phrase in several interactions is one entity;
/// under another phrase it is another, "id1b". `token_mask` [N, 3, L] (subject, object, verb) and
/// `masks` [N, 2, T, H, W] as of data_source::RawSample.
[[nodiscard]] std::vector<Entity> entities_of(
    const std::vector<data_source::Interaction>& interactions, const at::Tensor& token_mask,
    const at::Tensor& masks);

}  // namespace matrix::analysis
