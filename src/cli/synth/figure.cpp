#include "cli/synth/figure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <vector>

namespace matrix::synth {
namespace {

// In body half-heights.
constexpr double kFootHeight = 0.16;
constexpr double kHandRadius = 0.25;
constexpr double kBodyReach =
    1.4;  // no body has a point further from its middle (the cone's corners: 1.35)
constexpr double kOutline = 1.0;  // world units

/// What tells the characters apart besides the outline of the body. Shapes are in unit coordinates:
/// the body spans
/// [-1, 1] downwards.
struct Look {
    Colour colour;
    double half_width;
    Point face;  ///< the middle between the eyes
    double eye_distance;
};

const Look& look(Character character) {
    static constexpr std::array<Look, kNumCharacters> kLooks = {{
        {{0.92, 0.24, 0.22}, 1.0, {0.0, -0.22}, 0.34},
        {{0.16, 0.45, 0.95}, 0.94, {0.0, -0.16}, 0.34},
        {{1.00, 0.80, 0.12}, 0.95, {0.0, -0.06}, 0.28},
        {{0.16, 0.70, 0.30}, 0.90, {0.0, 0.16}, 0.29},
    }};
    return kLooks[static_cast<std::size_t>(character)];
}

/// Signed distance to a polygon, negative inside.
double polygon_distance(std::span<const Point> corners, Point p) {
    double nearest = std::numeric_limits<double>::max();
    bool inside = false;
    for (std::size_t i = 0, j = corners.size() - 1; i < corners.size(); j = i++) {
        const Point a = corners[j];
        const Point b = corners[i];
        const Point edge = {b.x - a.x, b.y - a.y};
        const Point to = {p.x - a.x, p.y - a.y};
        const double along = std::clamp(
            (to.x * edge.x + to.y * edge.y) / (edge.x * edge.x + edge.y * edge.y), 0.0, 1.0);
        const Point off = {to.x - along * edge.x, to.y - along * edge.y};
        nearest = std::min(nearest, off.x * off.x + off.y * off.y);
        if ((b.y > p.y) != (a.y > p.y) && p.x < a.x + edge.x * (p.y - a.y) / edge.y) {
            inside = !inside;
        }
    }
    return inside ? -std::sqrt(nearest) : std::sqrt(nearest);
}

std::vector<Point> star_corners() {
    std::vector<Point> corners;
    for (int i = 0; i < 10; ++i) {
        const double radius = i % 2 == 0 ? 1.0 : 0.62;
        const double angle = std::numbers::pi * (i / 5.0 - 0.5);
        corners.push_back({radius * std::cos(angle), radius * std::sin(angle) + 0.06});
    }
    return corners;
}

/// Signed distance to the body in unit coordinates.
double body_distance(Character character, Point p) {
    switch (character) {
        case Character::kBall:
            return std::hypot(p.x, p.y) - 1.0;
        case Character::kCube: {
            const Point q = {std::abs(p.x) - 0.72, std::abs(p.y - 0.02) - 0.74};
            const double outside = std::hypot(std::max(q.x, 0.0), std::max(q.y, 0.0));
            return outside + std::min(std::max(q.x, q.y), 0.0) - 0.2;
        }
        case Character::kStar: {
            static const std::vector<Point> kCorners = star_corners();
            return polygon_distance(kCorners, p) - 0.17;
        }
        case Character::kCone: {
            static constexpr std::array<Point, 3> kCorners = {
                {{0.0, -0.95}, {0.84, 0.78}, {-0.84, 0.78}}};
            return polygon_distance(kCorners, p) - 0.2;
        }
    }
    return 1.0;
}

bool in_ellipse(Point p, Point centre, double half_width, double half_height) {
    const double x = (p.x - centre.x) / half_width;
    const double y = (p.y - centre.y) / half_height;
    return x * x + y * y <= 1.0;
}

bool inside(const Figure::Box& box, Point p) {
    return p.x >= box.left && p.x <= box.right && p.y >= box.top && p.y <= box.bottom;
}

}  // namespace

Colour blend(Colour from, Colour to, double amount) {
    return {from.red + (to.red - from.red) * amount, from.green + (to.green - from.green) * amount,
            from.blue + (to.blue - from.blue) * amount};
}

Colour shade(Colour colour, double factor) {
    const auto scale = [factor](double x) { return std::clamp(x * factor, 0.0, 1.0); };
    return {scale(colour.red), scale(colour.green), scale(colour.blue)};
}

double half_width(const Actor& actor) {
    return look(actor.character).half_width * actor.size;
}

double standing_height(const Actor& actor) {
    return (2.0 + kFootHeight) * actor.size;
}

Figure::Figure(const Actor& actor, const Pose& pose)
    : character_(actor.character),
      size_(actor.size),
      pose_(pose),
      cosine_(std::cos(pose.lean)),
      sine_(std::sin(pose.lean)),
      stretch_{1.0 + pose.squash, 1.0 - pose.squash} {
    // Hands reach 1.4 half-heights from the middle, leaning and stretching add their share.
    const double reach = 1.95 * size_;
    const Point middle = {pose.ground.x, pose.ground.y - pose.height - size_};
    box_ = {middle.x - reach, middle.y - reach, middle.x + reach, middle.y + reach};
    const double spread = 1.3 * size_;
    shadow_box_ = {pose.ground.x - spread, pose.ground.y - 0.5 * spread, pose.ground.x + spread,
                   pose.ground.y + 0.5 * spread};
}

std::optional<Colour> Figure::face(Point unit) const {
    const Look& traits = look(character_);
    const Colour dark = {0.10, 0.09, 0.14};
    const Point centre = {traits.face.x + 0.2 * pose_.gaze.x, traits.face.y + 0.12 * pose_.gaze.y};
    for (const double side : {-1.0, 1.0}) {
        const Point eye = {centre.x + side * traits.eye_distance, centre.y};
        if (pose_.blink) {
            if (in_ellipse(unit, {eye.x, eye.y + 0.05}, 0.22, 0.07)) {
                return dark;
            }
            continue;
        }
        if (in_ellipse(unit, {eye.x + 0.12 * pose_.gaze.x, eye.y + 0.13 * pose_.gaze.y}, 0.15,
                       0.18)) {
            return dark;
        }
        if (in_ellipse(unit, eye, 0.25, 0.31)) {
            return Colour{1.0, 1.0, 1.0};
        }
    }
    const Point mouth = {centre.x, centre.y + 0.44};
    if (pose_.surprise > 0.5) {
        if (in_ellipse(unit, {mouth.x, mouth.y + 0.08}, 0.13, 0.15)) {
            return dark;
        }
    } else if (unit.y > mouth.y && in_ellipse(unit, mouth, 0.24, 0.2)) {
        return dark;
    }
    return std::nullopt;
}

std::optional<Colour> Figure::body(Point local) const {
    const Look& traits = look(character_);
    const Point unit = {local.x / (size_ * stretch_.x),
                        (local.y / size_ + kFootHeight) / stretch_.y + 1.0};
    if (!in_ellipse(unit, {}, kBodyReach, kBodyReach)) {
        return std::nullopt;
    }
    const double distance = body_distance(character_, unit) * size_;
    if (distance > 0.0) {
        return std::nullopt;
    }
    if (distance > -kOutline) {
        return shade(traits.colour, 0.55);
    }
    if (const auto feature = face(unit)) {
        return feature;
    }
    if (in_ellipse(unit, {-0.42, -0.52}, 0.2, 0.13) && character_ == Character::kBall) {
        return blend(traits.colour, {1.0, 1.0, 1.0}, 0.6);
    }
    if (character_ == Character::kCube && unit.y < -0.58) {
        return blend(traits.colour, {1.0, 1.0, 1.0}, 0.3);
    }
    return shade(traits.colour, 1.06 - 0.13 * (unit.y + 0.4 * unit.x));
}

std::optional<Colour> Figure::at(Point point) const {
    if (!inside(box_, point)) {
        return std::nullopt;
    }
    // Local coordinates: the origin between the feet, upright.
    const Point offset = {point.x - pose_.ground.x, point.y - pose_.ground.y + pose_.height};
    const Point local = {cosine_ * offset.x + sine_ * offset.y,
                         cosine_ * offset.y - sine_ * offset.x};
    const Colour colour = look(character_).colour;

    const Point unit = {local.x / size_, local.y / size_};
    const double middle = -kFootHeight - stretch_.y;
    for (const Point& hand : pose_.hands) {
        const Point palm = {hand.x, middle + hand.y};
        if (in_ellipse(unit, palm, kHandRadius, kHandRadius)) {
            const double inner = kHandRadius - 0.8 / size_;
            return !in_ellipse(unit, palm, inner, inner) ? shade(colour, 0.55)
                                                         : blend(colour, {1.0, 1.0, 1.0}, 0.25);
        }
    }
    if (const auto found = body(local)) {
        return found;
    }
    for (std::size_t i = 0; i < 2; ++i) {
        const Point foot = {(i == 0 ? -0.42 : 0.42) + pose_.feet[i].x, -0.17 + pose_.feet[i].y};
        if (in_ellipse(unit, foot, 0.34, 0.19)) {
            return shade(colour, 0.5);
        }
    }
    return std::nullopt;
}

double Figure::shadow(Point point) const {
    if (!inside(shadow_box_, point)) {
        return 0.0;
    }
    const double spread = 1.0 + 0.006 * pose_.height;
    const double distance = std::hypot((point.x - pose_.ground.x) / (1.05 * size_ * spread),
                                       (point.y - pose_.ground.y + 0.5) / (0.36 * size_ * spread));
    const double amount = std::clamp((1.0 - distance) / 0.5, 0.0, 1.0);
    return 0.42 * amount / (1.0 + 0.03 * pose_.height);
}

}  // namespace matrix::synth
