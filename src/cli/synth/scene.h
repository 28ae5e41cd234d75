#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

// Lengths are in world units: a frame of 96 x 160 pixels shows a world of 96 x 160 units, y points
// down.

namespace matrix::synth {

struct Point {
    double x = 0.0;
    double y = 0.0;
};

/// What the camera sees: at least 96 units high and 160 wide, whatever the frame's aspect ratio.
struct World {
    double height = 96.0;
    double width = 160.0;
};

enum class Character { kBall, kCube, kStar, kCone };
inline constexpr std::size_t kNumCharacters = 4;

/// How captions call a character: "red ball".
[[nodiscard]] std::string_view character_name(Character character);

enum class Family { kChecker, kStripes, kMeadow, kDots };

struct Setting {
    Family family = Family::kChecker;
    double hue = 0.0;         ///< of the floor, in [0, 1)
    double wall_hue = 0.0;    ///< of the wall
    std::uint64_t grain = 0;  ///< key of the noise
};

/// The oval track of a chase: half its width, and its middle's distance from the lower edge.
inline constexpr double kTrackHalfWidth = 49.0;
inline constexpr double kTrackFloor = 24.0;

/// What a clip shows.
enum class Play {
    kPush,      ///< the lead pushes the partner
    kLift,      ///< the lead lifts the partner
    kChase,     ///< the lead chases the partner
    kHandOver,  ///< the lead hands the partner over to the third
    kRelay,     ///< the lead chases the partner, which pushes the third
};

struct Actor {
    Character character = Character::kBall;
    Point ground;        ///< where it stands in the first frame
    double size = 13.0;  ///< half the body's height
    double phase = 0.0;  ///< of its breathing and blinking, in [0, 1)
};

/// Everything about a clip but its words. Roles are indices into `actors`; actor i has the mask
/// track's ID i + 1. The order is drawn independently of the roles.
struct Scene {
    Play play = Play::kPush;
    std::vector<Actor> actors;
    std::size_t lead = 0;
    std::size_t partner = 1;
    std::optional<std::size_t> third;  ///< receiver, pushed one, or a bystander
    bool bystander = false;            ///< the third only watches
    double turn = 1.0;                 ///< +1 or -1: which way round a chase runs
    Setting setting;
    bool twin = false;  ///< the previous clip's scene with the roles swapped
};

enum class Verb { kPush, kLift, kChase, kHandOver };

/// Who does what to whom, as indices into `Scene::actors`.
struct Deed {
    Verb verb = Verb::kPush;
    std::size_t subject = 0;
    std::size_t object = 0;
};
[[nodiscard]] std::vector<Deed> deeds(const Scene& scene);

/// Whether clip `clip` (from 0) repeats the scene of the clip before it. Never two in a row; a
/// quarter of all clips.
[[nodiscard]] bool is_twin(std::uint64_t seed, std::int64_t clip);

/// The scene of one clip; it depends on nothing but the arguments. A twin differs from the clip
/// before it in the roles alone: same first frame, same IDs.
[[nodiscard]] Scene make_scene(std::uint64_t seed, std::int64_t clip, const World& world);

}  // namespace matrix::synth
