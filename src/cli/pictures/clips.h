#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/data_cache/sample.h"
#include "matrix/data_source/manifest.h"
#include "matrix/train/batch.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace matrix::cli::pictures {

/// The noise level of all pictures.
inline constexpr std::int64_t kTimestep = 150;

/// A clip with its first interaction alone, as the model and as people see it.
struct PictureClip {
    std::string set;   ///< "train" or "heldout"
    std::string stem;  ///< of the video, fit for file names
    data_cache::DataConfig data;
    data_source::Row row;  ///< one interaction, with an object
    train::Batch batch;    ///< one sample at kTimestep, one interaction
    at::Tensor frames;     ///< [T, H, W, 3] uint8

    /// Mask track of the subject (0), the object (1) or both (2: the verb's), [T, H, W] uint8.
    [[nodiscard]] at::Tensor track(std::int64_t entity) const;
    /// The phrase of subject, object or verb.
    [[nodiscard]] std::string phrase(std::int64_t entity) const;
    [[nodiscard]] std::string prompt() const;
};

/// A clip's pixels [3, T, H, W] in [-1, 1] as frames [T, H, W, 3] uint8.
[[nodiscard]] at::Tensor to_frames(const at::Tensor& video);

/// Of a video below videos/, fit for file names.
[[nodiscard]] std::string stem_of(const std::string& video);

/// At most `count` clips of a data set, the first of some evenly spread rows in whose first
/// interaction subject, object and verb are named and the two have masks. None, with a line in the
/// log, where the data set's videos are not there.
[[nodiscard]] std::vector<PictureClip> choose_clips(const data_cache::SampleSource& samples,
                                                    const data_cache::DataConfig& data,
                                                    const train::BatchRules& rules,
                                                    const std::string& set, std::size_t count);

}  // namespace matrix::cli::pictures
