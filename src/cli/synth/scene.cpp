#include "cli/synth/scene.h"

#include "cli/synth/stream.h"

#include <array>
#include <utility>

namespace matrix::synth {
namespace {

// A clip whose predecessor is no twin becomes one with this probability: q / (1 + q) = 1/4 of all
// clips.
constexpr double kTwinProbability = 1.0 / 3.0;

bool wants_twin(std::uint64_t seed, std::int64_t clip) {
    return clip > 0 && Stream(seed, clip, Draw::kTwin).chance(kTwinProbability);
}

Play draw_play(Stream& stream) {
    const double x = stream.uniform();
    return x < 0.25   ? Play::kPush
           : x < 0.50 ? Play::kLift
           : x < 0.73 ? Play::kChase
           : x < 0.88 ? Play::kHandOver
                      : Play::kRelay;
}

/// The positions the roles may take, relative to the middle of the floor's lower edge. Lead and
/// partner can change places in every layout, so neither the first frame nor the side tells who
/// will act.
struct Layout {
    Point first;
    Point second;
    Point third;
};

Layout draw_layout(Play play, bool crowd, Stream& stream) {
    const double side = stream.chance(0.5) ? 1.0 : -1.0;
    if (play == Play::kChase) {
        // The two ends of the oval that a chase runs along; the third stands in its middle.
        return {{-kTrackHalfWidth * side, -kTrackFloor},
                {kTrackHalfWidth * side, -kTrackFloor},
                {0.0, -kTrackFloor}};
    }
    if (play == Play::kHandOver) {
        const double near = stream.chance(0.5) ? 0.0 : -50.0 * side;
        const double far = -50.0 * side - near;
        return {{near, -16.0}, {far, -16.0}, {50.0 * side, -16.0}};
    }
    if (play == Play::kRelay) {
        // First and third (who change places in a twin) at the ends.
        return {{-44.0 * side, -16.0}, {0.0, -16.0}, {44.0 * side, -16.0}};
    }
    const bool front = stream.chance(0.5);
    const double lane = !crowd                ? stream.uniform(-24.0, -12.0)
                        : front               ? -11.0
                        : play == Play::kLift ? -31.0
                                              : -36.0;
    const double other = front ? -38.0 : -8.0;
    const double half = stream.uniform(26.0, 29.0);
    const double middle = stream.uniform(-3.0, 3.0);
    // What is lifted ends above the middle and would hide a bystander behind it.
    const double nearest = play == Play::kLift ? 36.0 : 0.0;
    const double aside = stream.uniform(nearest, 54.0) * (stream.chance(0.5) ? 1.0 : -1.0);
    return {{middle - half * side, lane}, {middle + half * side, lane}, {aside, other}};
}

}  // namespace

std::string_view character_name(Character character) {
    static constexpr std::array<std::string_view, kNumCharacters> kNames = {
        "red ball", "blue cube", "yellow star", "green cone"};
    return kNames[static_cast<std::size_t>(character)];
}

std::vector<Deed> deeds(const Scene& scene) {
    switch (scene.play) {
        case Play::kPush:
            return {{Verb::kPush, scene.lead, scene.partner}};
        case Play::kLift:
            return {{Verb::kLift, scene.lead, scene.partner}};
        case Play::kChase:
            return {{Verb::kChase, scene.lead, scene.partner}};
        case Play::kHandOver:
            return {{Verb::kHandOver, scene.lead, scene.partner}};
        case Play::kRelay:
            return {{Verb::kChase, scene.lead, scene.partner},
                    {Verb::kPush, scene.partner, scene.third.value()}};
    }
    return {};
}

bool is_twin(std::uint64_t seed, std::int64_t clip) {
    std::int64_t run = 0;  // of clips in a row, up to this one, that would repeat their predecessor
    while (wants_twin(seed, clip - run)) {
        ++run;
    }
    return run % 2 == 1;
}

Scene make_scene(std::uint64_t seed, std::int64_t clip, const World& world) {
    Scene scene;
    scene.twin = is_twin(seed, clip);
    Stream stream(seed, scene.twin ? clip - 1 : clip, Draw::kScene);

    scene.play = draw_play(stream);
    const bool needs_third = scene.play == Play::kHandOver || scene.play == Play::kRelay;
    const bool crowd = stream.chance(0.45) || needs_third;
    scene.bystander = crowd && !needs_third;
    scene.turn = stream.chance(0.5) ? 1.0 : -1.0;
    const Layout layout = draw_layout(scene.play, crowd, stream);

    std::vector<Character> cast = {Character::kBall, Character::kCube, Character::kStar,
                                   Character::kCone};
    stream.shuffle(cast);
    const std::size_t num_actors = crowd ? 3 : 2;
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < num_actors; ++i) {
        order.push_back(i);
    }
    stream.shuffle(order);
    scene.lead = order[0];
    scene.partner = order[1];
    if (crowd) {
        scene.third = order[2];
    }
    scene.actors.resize(num_actors);
    const std::array<Point, 3> places = {layout.first, layout.second, layout.third};
    for (std::size_t i = 0; i < num_actors; ++i) {
        Actor& actor = scene.actors[order[i]];
        actor.character = cast[i];
        actor.ground = {world.width / 2 + places[i].x + stream.uniform(-2.0, 2.0),
                        world.height + places[i].y + stream.uniform(-2.0, 2.0)};
        actor.size = crowd ? stream.uniform(11.5, 13.0) : stream.uniform(12.5, 14.5);
        actor.phase = stream.uniform();
    }

    scene.setting.family =
        stream.pick({Family::kChecker, Family::kStripes, Family::kMeadow, Family::kDots});
    scene.setting.hue = stream.uniform();
    scene.setting.wall_hue = stream.uniform();
    scene.setting.grain = stream.bits();

    if (scene.twin) {
        std::swap(scene.lead, scene.play == Play::kRelay ? scene.third.value() : scene.partner);
    }
    return scene;
}

}  // namespace matrix::synth
