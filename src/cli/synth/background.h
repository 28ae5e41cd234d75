#pragma once

#include "cli/synth/figure.h"
#include "cli/synth/scene.h"

namespace matrix::synth {

/// The muted, textured colour behind the actors at a point of the world.
[[nodiscard]] Colour background(const Setting& setting, const World& world, Point point);

}  // namespace matrix::synth
