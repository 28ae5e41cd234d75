#pragma once

#include "cli/synth/scene.h"

#include <cstdint>
#include <string>
#include <vector>

namespace matrix::synth {

struct Mention {
    std::string phrase;
    std::int64_t id = 0;
};

/// Roles are those of the deed, not of the grammar: of "the blue cube is pushed by the red ball"
/// the subject is the ball.
struct Interaction {
    Mention subject;
    std::string verb;
    Mention object;
};

/// A caption with a marker `<idN>` before each character, and its interactions; without the markers
/// every phrase occurs in the text exactly once.
struct Caption {
    std::string prompt;
    std::vector<Interaction> interactions;
};

/// Words for one scene; wording is drawn by (seed, clip) apart from the scene, so twins may be
/// worded differently.
[[nodiscard]] Caption describe(const Scene& scene, std::uint64_t seed, std::int64_t clip);

}  // namespace matrix::synth
