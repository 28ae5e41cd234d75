#pragma once

#include "matrix/analysis/entities.h"
#include "matrix/analysis/record.h"
#include "matrix/analysis/summary.h"

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace matrix::cli::analyze {

/// A clip that is drawn: its frames, its entities with their tracks, and what each analysis read.
struct DrawnClip {
    at::Tensor frames;  ///< [T, H, W, 3] uint8
    std::vector<analysis::Entity> entities;
    struct Reading {
        std::string label;
        analysis::VideoRecord record;
    };
    std::vector<Reading> readings;
};

/// The layer whose maps are shown, by variant (analysis::kVariants); -1: none.
using ShownLayers = std::array<std::int64_t, analysis::kVariants.size()>;
[[nodiscard]] ShownLayers shown_layers(const analysis::Summary& summary);

/// Writes `<stem>.png`, an entity's mask and maps in the first, a middle and the last frame,
/// `<stem>.mp4`, the same in all frames, and `<stem>-layers-v2t.png` and `-v2v.png`, the maps of
/// all layers in the middle frame. Maps are means over heads and steps, each frame scaled from its
/// least to its largest value. Returns the sheet.
at::Tensor draw_clip(const std::filesystem::path& directory, const std::string& stem,
                     const DrawnClip& clip, const ShownLayers& layers);

}  // namespace matrix::cli::analyze
