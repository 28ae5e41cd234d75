#pragma once

#include "cli/pictures/attention_maps.h"
#include "cli/pictures/clips.h"
#include "cli/pictures/curves.h"

#include <ATen/core/Tensor.h>

#include <string>

namespace matrix::cli::pictures {

/// A run at a glance, 1600 px wide: what alignment trains on and what it scores, and below it one
/// clip's subject and object with frame, mask, and attention before and after.
[[nodiscard]] at::Tensor draw_summary(const History& history, const Floors& floors,
                                      std::int64_t samples_per_step, const PictureClip& clip,
                                      const ClipMaps& before, const ClipMaps& after,
                                      const std::string& lines);

}  // namespace matrix::cli::pictures
