#pragma once

#include "cli/synth/scene.h"

#include <array>
#include <cstdint>
#include <vector>

namespace matrix::synth {

/// One actor in one frame.
struct Pose {
    Point ground;                ///< the spot it stands on, or hangs above
    double height = 0.0;         ///< of its feet above the ground
    double squash = 0.0;         ///< 0.1: a tenth flatter and wider
    double lean = 0.0;           ///< radians, to the right
    Point gaze;                  ///< where the eyes point, each axis in [-1, 1]
    std::array<Point, 2> hands;  ///< from the body's centre, in body half-heights: left, right
    std::array<Point, 2> feet;   ///< from their resting place, in body half-heights: left, right
    double surprise = 0.0;       ///< 0: a smile, 1: an open mouth
    bool blink = false;
    double depth = 0.0;  ///< larger is nearer to the camera
};

/// The poses of all actors in `num_frames` frames, [frame][actor]. The first frame is the same
/// whoever has which role.
[[nodiscard]] std::vector<std::vector<Pose>> choreograph(const Scene& scene,
                                                         std::int64_t num_frames,
                                                         const World& world);

}  // namespace matrix::synth
