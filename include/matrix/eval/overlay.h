#pragma once

#include <cstddef>
#include <filesystem>

#include "matrix/eval/layout.h"

namespace matrix::eval {

/// Step 5 for one video: on frame 0 every instance is blended half and half with its colour, on
/// every frame a rectangle of 2 px in that colour goes around its mask; 8 frames a second whatever
/// the video's own rate is. `tracks` holds id1, id2, ... (or <id1>, <id2>, ...) with one mask PNG a
/// frame, named by its number. RunError: a missing track, another number of masks than frames, a
/// mask of another size.
void write_overlay(const std::filesystem::path& video, const std::filesystem::path& tracks,
                   std::size_t num_entities, const std::filesystem::path& out);

/// Step 5: eval_metas/NNN.json for every scenario, track_vis/NNN.mp4 for every video that has
/// changed, or whose tracks have, since it was drawn.
[[nodiscard]] StepResult make_overlays(const Layout& layout, const Selection& selection);

}  // namespace matrix::eval
