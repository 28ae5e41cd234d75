#pragma once

#include "cli/synth/choreography.h"
#include "cli/synth/scene.h"

#include <array>
#include <optional>

namespace matrix::synth {

/// Linear blending of display values, each in [0, 1].
struct Colour {
    double red = 0.0;
    double green = 0.0;
    double blue = 0.0;
};
[[nodiscard]] Colour blend(Colour from, Colour to, double amount);
/// Brighter or darker by a factor.
[[nodiscard]] Colour shade(Colour colour, double factor);

/// From the middle of a character to where it is touched from the side.
[[nodiscard]] double half_width(const Actor& actor);
/// From the ground to the top of its head.
[[nodiscard]] double standing_height(const Actor& actor);

/// A posed character that can be asked, point by point, whether it is there and in what colour.
class Figure {
public:
    Figure(const Actor& actor, const Pose& pose);

    /// The colour at a point of the world, or nothing where the character is not.
    [[nodiscard]] std::optional<Colour> at(Point point) const;

    struct Box {
        double left, top, right, bottom;
    };
    /// Holds every point of the figure (its shadow is not part of it).
    [[nodiscard]] const Box& box() const { return box_; }

    /// How much light its shadow takes from the ground at a point, in [0, 1].
    [[nodiscard]] double shadow(Point point) const;
    [[nodiscard]] const Box& shadow_box() const { return shadow_box_; }

    [[nodiscard]] double depth() const { return pose_.depth; }

private:
    [[nodiscard]] std::optional<Colour> body(Point local) const;
    [[nodiscard]] std::optional<Colour> face(Point unit) const;

    Character character_;
    double size_;
    Pose pose_;
    double cosine_;
    double sine_;
    Point stretch_;  ///< of the body by its squash, per axis
    Box box_;
    Box shadow_box_;
};

}  // namespace matrix::synth
