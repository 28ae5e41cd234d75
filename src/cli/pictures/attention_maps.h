#pragma once

#include "cli/pictures/clips.h"
#include "matrix/alignment/config.h"
#include "matrix/tensor_io/safetensors.h"
#include "matrix/train/trainer.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

// F x gh x gw video cells.

namespace matrix::cli::pictures {

/// The raw attention maps (logits) of a clip's interaction; a term that is off has none.
struct ClipMaps {
    at::Tensor words;   ///< [3, F, gh, gw]: video to the words of subject, object, verb, the
                        ///< mean over the SGA blocks
    at::Tensor tracks;  ///< [2, F, gh, gw]: first-frame cells of subject, object to the video,
                        ///< the mean over the SPA blocks
};

/// One forward without gradients.
[[nodiscard]] ClipMaps read_maps(const train::RunParts& parts,
                                 const alignment::AlignmentConfig& config,
                                 const train::Batch& batch);

/// Maps by clip ("train/000001"), as a file.
using MapsByClip = std::map<std::string, ClipMaps>;
void save_maps(const std::filesystem::path& path, const MapsByClip& maps);
[[nodiscard]] MapsByClip load_maps(const std::filesystem::path& path);
[[nodiscard]] std::string map_key(const PictureClip& clip);

/// ROC-AUC of a map [F, gh, gw] against the cells at least half covered by `track` [T, H, W], from
/// latent frame `first_frame` on (tracks: 1, the queries stand in frame 0).
[[nodiscard]] double map_auc(const at::Tensor& map, const at::Tensor& track,
                             std::int64_t first_frame);
/// The same among the cells that belong to one of the two tracks alone: `track` against `other`.
[[nodiscard]] double map_bind(const at::Tensor& map, const at::Tensor& track,
                              const at::Tensor& other, std::int64_t first_frame);

/// The map less its mean, in standard deviations, both over the frames from `first_frame` on: what
/// lets maps of different steps share one colour scale.
[[nodiscard]] at::Tensor standardised(const at::Tensor& map, std::int64_t first_frame);

}  // namespace matrix::cli::pictures
