#include "cli/synth/choreography.h"

#include "cli/synth/figure.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace matrix::synth {
namespace {

constexpr double kPi = std::numbers::pi;

/// What a play decides of an actor at one time; walking, breathing and looking follow from it.
struct Beat {
    Point ground;
    double height = 0.0;
    double squash = 0.0;
    double lean = 0.0;
    double push = 0.0;   ///< 1: both hands forward, along `heading`
    double raise = 0.0;  ///< 1: both hands above the head
    double flail = 0.0;  ///< 1: hands flung out
    double heading = 1.0;
    double surprise = 0.0;
    bool walks = true;  ///< moves on its own feet
    int looks_at = -1;  ///< an actor, or -1: along its own motion
};
using Beats = std::vector<Beat>;

double ease(double from, double to, double t) {
    const double x = std::clamp((t - from) / (to - from), 0.0, 1.0);
    return x * x * (3.0 - 2.0 * x);
}

/// Up and down again between `from` and `to`.
double bump(double from, double to, double t) {
    const double x = std::clamp((t - from) / (to - from), 0.0, 1.0);
    return std::sin(kPi * x);
}

double mix(double a, double b, double x) {
    return a + (b - a) * x;
}
Point mix(Point a, Point b, double x) {
    return {mix(a.x, b.x, x), mix(a.y, b.y, x)};
}

/// Where an actor stands when it touches another one from the side it comes from.
struct Contact {
    double side;  ///< +1: it comes from the left and faces right
    Point ground;
};
Contact contact(const Actor& comer, const Actor& other, Point other_ground) {
    const double side = other_ground.x >= comer.ground.x ? 1.0 : -1.0;
    const double gap = half_width(comer) + half_width(other) + 1.0;
    return {side, {other_ground.x - side * gap, other_ground.y}};
}

/// How far an actor may slide towards `side` before its flung-out hands leave the picture.
double room(const Actor& actor, double side, const World& world) {
    const double margin = 1.6 * actor.size;
    const double x = actor.ground.x;
    return std::max(0.0, side > 0 ? world.width - margin - x : x - margin);
}

void slide(const Scene& scene, std::size_t pusher, std::size_t pushed, double from, double to,
           double t, const World& world, Beats& beats) {
    const Actor& object = scene.actors[pushed];
    const Contact touch = contact(scene.actors[pusher], object, object.ground);
    const double way =
        touch.side * ease(from, to, t) * std::min(34.0, room(object, touch.side, world));
    const double effort = ease(from - 0.06, from + 0.06, t) * (1.0 - ease(to - 0.04, to + 0.06, t));
    Beat& subject = beats[pusher];
    subject.ground.x += way;
    subject.lean = 0.2 * touch.side * effort;
    subject.push = ease(from - 0.18, from - 0.04, t);
    subject.heading = touch.side;
    subject.looks_at = static_cast<int>(pushed);
    Beat& thing = beats[pushed];
    thing.ground.x += way;
    thing.walks = false;
    thing.squash = -0.10 * bump(from - 0.06, from + 0.14, t);
    thing.lean = 0.1 * touch.side * effort;
    thing.surprise = ease(from - 0.05, from + 0.02, t);
    thing.flail = 0.6 * effort;
}

void push(const Scene& scene, double t, const World& world, Beats& beats) {
    const Actor& lead = scene.actors[scene.lead];
    const Actor& partner = scene.actors[scene.partner];
    const Contact touch = contact(lead, partner, partner.ground);
    beats[scene.lead].ground = mix(lead.ground, touch.ground, ease(0.02, 0.38, t));
    slide(scene, scene.lead, scene.partner, 0.40, 0.92, t, world, beats);
}

/// The partner's way from the floor beside its carrier to above its head; 0 at the start, 1 at the
/// top.
void carry(const Actor& carrier, const Actor& load, Point floor, double x, const Beat& carrier_beat,
           Beat& beat) {
    const double top = standing_height(carrier) * (1.0 - carrier_beat.squash) - 2.5;
    beat.ground = mix(floor, carrier_beat.ground, ease(0.25, 1.0, x));
    beat.height = top * ease(0.0, 0.7, x);
    beat.walks = beat.walks && x <= 0.0;
    beat.flail = ease(0.0, 0.4, x);
    beat.surprise = ease(0.0, 0.3, x);
    beat.lean = 0.12 * (load.ground.x < carrier.ground.x ? -1.0 : 1.0) * bump(0.0, 1.0, x);
}

void lift(const Scene& scene, double t, Beats& beats) {
    const Actor& lead = scene.actors[scene.lead];
    const Actor& partner = scene.actors[scene.partner];
    const Contact touch = contact(lead, partner, partner.ground);
    Beat& subject = beats[scene.lead];
    subject.ground = mix(lead.ground, touch.ground, ease(0.02, 0.36, t));
    subject.squash = 0.16 * bump(0.36, 0.54, t) - 0.05 * bump(0.60, 0.80, t);
    subject.push = ease(0.24, 0.36, t) * (1.0 - ease(0.44, 0.56, t));
    subject.raise = ease(0.44, 0.60, t);
    subject.heading = touch.side;
    subject.looks_at = static_cast<int>(scene.partner);
    const double up = std::clamp((t - 0.44) / 0.28, 0.0, 1.0);
    carry(lead, partner, partner.ground, up, subject, beats[scene.partner]);
    beats[scene.partner].height +=
        1.6 * std::abs(std::sin(4.0 * kPi * (t - 0.72))) * ease(0.72, 0.80, t);
}

void hand_over(const Scene& scene, double t, Beats& beats) {
    const std::size_t receiver_index = scene.third.value();
    const Actor& lead = scene.actors[scene.lead];
    const Actor& partner = scene.actors[scene.partner];
    const Actor& third = scene.actors[receiver_index];
    const Contact pick = contact(lead, partner, partner.ground);
    Actor carrier = lead;
    carrier.ground = pick.ground;
    const Contact give = contact(carrier, third, third.ground);

    Beat& subject = beats[scene.lead];
    subject.ground =
        mix(mix(lead.ground, pick.ground, ease(0.0, 0.24, t)), give.ground, ease(0.40, 0.70, t));
    subject.squash = 0.14 * bump(0.22, 0.34, t);
    subject.push = ease(0.14, 0.22, t) * (1.0 - ease(0.26, 0.34, t));
    subject.raise = ease(0.26, 0.36, t) * (1.0 - ease(0.88, 0.98, t));
    subject.heading = t < 0.40 ? pick.side : give.side;
    subject.looks_at = static_cast<int>(t < 0.62 ? scene.partner : receiver_index);
    Beat& receiver = beats[receiver_index];
    receiver.raise = ease(0.56, 0.68, t);
    receiver.squash = 0.10 * bump(0.84, 0.98, t);
    receiver.looks_at = static_cast<int>(scene.partner);

    Beat& load = beats[scene.partner];
    carry(lead, partner, partner.ground, std::clamp((t - 0.26) / 0.16, 0.0, 1.0), subject, load);
    const double pass = ease(0.70, 0.88, t);
    load.ground = mix(load.ground, receiver.ground, pass);
    const double top = standing_height(third) * (1.0 - receiver.squash) - 2.5;
    load.height = mix(load.height, top, pass) + 5.0 * bump(0.70, 0.88, t);
    load.looks_at = static_cast<int>(t < 0.62 ? scene.lead : receiver_index);
}

void relay(const Scene& scene, double t, const World& world, Beats& beats) {
    const std::size_t pushed = scene.third.value();
    const Actor& chaser = scene.actors[scene.lead];
    const Actor& pusher = scene.actors[scene.partner];
    const Contact touch = contact(pusher, scene.actors[pushed], scene.actors[pushed].ground);
    beats[scene.partner].ground = mix(pusher.ground, touch.ground, ease(0.0, 0.36, t));
    slide(scene, scene.partner, pushed, 0.38, 0.95, t, world, beats);
    Actor runner = pusher;
    runner.ground = beats[scene.partner].ground;
    const Contact behind = contact(chaser, runner, runner.ground);
    Beat& lead = beats[scene.lead];
    lead.ground = mix(chaser.ground, {behind.ground.x - 2.0 * behind.side, behind.ground.y},
                      ease(0.06, 1.0, t));
    lead.push = 0.7 * ease(0.10, 0.30, t);
    lead.lean = 0.12 * behind.side * ease(0.05, 0.2, t);
    lead.heading = behind.side;
    lead.looks_at = static_cast<int>(scene.partner);
}

/// The oval track of a chase, walked by arc length.
class Oval {
public:
    Oval(Point centre, double half_width, double half_height, double turn)
        : centre_(centre), half_width_(half_width), half_height_(half_height), turn_(turn) {
        for (std::size_t i = 1; i <= kSteps; ++i) {
            const Point a = at_angle(static_cast<double>(i - 1) / kSteps);
            const Point b = at_angle(static_cast<double>(i) / kSteps);
            length_[i] = length_[i - 1] + std::hypot(b.x - a.x, b.y - a.y);
        }
    }

    [[nodiscard]] double perimeter() const { return length_[kSteps]; }

    /// The point `way` further than the right end.
    [[nodiscard]] Point at(double way) const {
        const double rest = way - perimeter() * std::floor(way / perimeter());
        const auto next = std::upper_bound(length_.begin() + 1, length_.end() - 1, rest);
        const auto i = static_cast<std::size_t>(next - length_.begin());
        const double part = (rest - length_[i - 1]) / (length_[i] - length_[i - 1]);
        return at_angle((static_cast<double>(i - 1) + part) / kSteps);
    }

private:
    static constexpr std::size_t kSteps = 256;

    [[nodiscard]] Point at_angle(double turns) const {
        const double angle = 2.0 * kPi * turns * turn_;
        return {centre_.x + half_width_ * std::cos(angle),
                centre_.y + half_height_ * std::sin(angle)};
    }

    Point centre_;
    double half_width_;
    double half_height_;
    double turn_;
    std::array<double, kSteps + 1> length_{};
};

void chase(const Scene& scene, double t, const World& world, Beats& beats) {
    const Actor& lead = scene.actors[scene.lead];
    const Actor& partner = scene.actors[scene.partner];
    const Oval oval({world.width / 2, world.height - kTrackFloor}, kTrackHalfWidth, 17.0,
                    scene.turn);
    const double half = oval.perimeter() / 2;
    const double start = partner.ground.x > lead.ground.x ? 0.0 : half;
    const double fled =
        108.0 * (0.5 * ease(0.08, 1.0, t) + 0.5 * std::clamp((t - 0.08) / 0.92, 0.0, 1.0));
    const double gap = mix(half, half_width(lead) + half_width(partner) + 13.0, ease(0.0, 0.62, t));
    const double settle = 1.0 - ease(0.0, 0.4, t);  // the jitter of the start fades
    const auto place = [&](std::size_t actor, double way, double origin) {
        const Point home = oval.at(origin);
        const Point on = oval.at(way);
        const Point drawn = scene.actors[actor].ground;
        beats[actor].ground = {on.x + settle * (drawn.x - home.x),
                               on.y + settle * (drawn.y - home.y)};
    };
    place(scene.partner, start + fled, start);
    place(scene.lead, start + fled - gap, start + half);

    Beat& subject = beats[scene.lead];
    subject.looks_at = static_cast<int>(scene.partner);
    subject.push = ease(0.05, 0.25, t);
    subject.heading = beats[scene.partner].ground.x >= subject.ground.x ? 1.0 : -1.0;
    subject.lean = 0.16 * subject.heading * ease(0.05, 0.2, t);
    Beat& hunted = beats[scene.partner];
    hunted.surprise = ease(0.03, 0.12, t);
    hunted.flail = 0.7 * ease(0.05, 0.2, t);
    hunted.height = 3.0 * bump(0.02, 0.14, t);
}

Beats beats_at(const Scene& scene, double t, const World& world) {
    Beats beats(scene.actors.size());
    for (std::size_t i = 0; i < beats.size(); ++i) {
        beats[i].ground = scene.actors[i].ground;
    }
    switch (scene.play) {
        case Play::kPush:
            push(scene, t, world, beats);
            break;
        case Play::kLift:
            lift(scene, t, beats);
            break;
        case Play::kChase:
            chase(scene, t, world, beats);
            break;
        case Play::kHandOver:
            hand_over(scene, t, beats);
            break;
        case Play::kRelay:
            relay(scene, t, world, beats);
            break;
    }
    if (scene.bystander) {
        beats[scene.third.value()].looks_at = static_cast<int>(scene.partner);
    }
    return beats;
}

/// Left and right hand: hanging, then blended towards what the beat asks for.
std::array<Point, 2> hands(const Beat& beat, double swing) {
    std::array<Point, 2> result;
    for (std::size_t i = 0; i < 2; ++i) {
        const double side = i == 0 ? -1.0 : 1.0;
        Point hand = {1.05 * side + 0.2 * swing, 0.35};
        // The hand on the far side reaches a little less far and a little lower.
        const bool far = side * beat.heading < 0;
        hand = mix(hand, {beat.heading * (far ? 0.95 : 1.22), far ? 0.5 : 0.05}, beat.push);
        hand = mix(hand, {1.3 * side, -0.45}, beat.flail);
        hand = mix(hand, {0.78 * side, -1.12}, beat.raise);
        result[i] = hand;
    }
    return result;
}

Point gaze(const Beats& beats, std::size_t actor, Point velocity, double t) {
    Point wanted = {velocity.x, 0.6 * velocity.y};
    double length =
        std::max(3.0, std::hypot(wanted.x, wanted.y));  // slow motion turns the eyes less
    if (beats[actor].looks_at >= 0) {
        const Beat& target = beats[static_cast<std::size_t>(beats[actor].looks_at)];
        wanted = {target.ground.x - beats[actor].ground.x,
                  target.ground.y - target.height - beats[actor].ground.y + beats[actor].height};
        length = std::max(1.0, std::hypot(wanted.x, wanted.y));
    }
    const double attention = ease(0.0, 0.12, t);
    return {attention * wanted.x / length, mix(0.1, wanted.y / length, attention)};
}

}  // namespace

std::vector<std::vector<Pose>> choreograph(const Scene& scene, std::int64_t num_frames,
                                           const World& world) {
    std::vector<std::vector<Pose>> result;
    std::vector<double> walked(scene.actors.size(), 0.0);
    Beats before = beats_at(scene, 0.0, world);
    for (std::int64_t frame = 0; frame < num_frames; ++frame) {
        const double t =
            num_frames > 1 ? static_cast<double>(frame) / static_cast<double>(num_frames - 1) : 0.0;
        const Beats beats = beats_at(scene, t, world);
        std::vector<Pose> poses(beats.size());
        for (std::size_t i = 0; i < beats.size(); ++i) {
            const Actor& actor = scene.actors[i];
            const Beat& beat = beats[i];
            const Point velocity = {beat.ground.x - before[i].ground.x,
                                    beat.ground.y - before[i].ground.y};
            const double step = beat.walks ? std::hypot(velocity.x, velocity.y) : 0.0;
            walked[i] += step;
            const double stride = std::min(1.0, step / 3.0);
            const double cycle = 2.0 * kPi * walked[i] / (1.9 * actor.size);
            const double breath = std::sin(2.0 * kPi * (2.0 * t + actor.phase));

            Pose& pose = poses[i];
            pose.ground = beat.ground;
            pose.height = beat.height + 2.0 * stride * std::abs(std::sin(cycle));
            pose.squash = beat.squash + 0.025 * breath;
            pose.lean = beat.lean;
            pose.gaze = gaze(beats, i, velocity, t);
            pose.hands = hands(beat, stride * std::sin(cycle));
            const double dangle = beat.walks ? 0.0 : 0.12 * std::min(1.0, beat.height / 6.0);
            for (std::size_t foot = 0; foot < 2; ++foot) {
                const double swing = std::sin(cycle + (foot == 0 ? 0.0 : kPi));
                pose.feet[foot] = {0.34 * stride * swing,
                                   dangle - 0.22 * stride * std::max(0.0, swing)};
            }
            pose.surprise = beat.surprise;
            pose.blink = std::abs(t - 0.25 - 0.6 * actor.phase) < 0.03;
            // Who acts is drawn over what it touches.
            pose.depth = beat.ground.y + (i == scene.lead      ? 4.0
                                          : i == scene.partner ? 2.0
                                                               : 0.0) *
                                             ease(0.0, 0.1, t);
        }
        result.push_back(std::move(poses));
        before = beats;
    }
    return result;
}

}  // namespace matrix::synth
