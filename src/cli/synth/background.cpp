#include "cli/synth/background.h"

#include "cli/synth/stream.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace matrix::synth {
namespace {

constexpr double kHorizon =
    38.0;  // from the top of a world of 96 units; taller worlds get a taller wall

Colour from_hsl(double hue, double saturation, double lightness) {
    const double chroma = saturation * std::min(lightness, 1.0 - lightness);
    const auto channel = [&](double n) {
        const double k = std::fmod(n + 12.0 * hue, 12.0);
        return lightness - chroma * std::max(-1.0, std::min({k - 3.0, 9.0 - k, 1.0}));
    };
    return {channel(0.0), channel(8.0), channel(4.0)};
}

double lattice(std::uint64_t key, std::int64_t x, std::int64_t y) {
    const std::uint64_t hash =
        scramble(scramble(key + static_cast<std::uint64_t>(x)) + static_cast<std::uint64_t>(y));
    return static_cast<double>(hash >> 11) * 0x1.0p-53;
}

/// Smooth noise in [0, 1) with features of one unit.
double noise(std::uint64_t key, double x, double y) {
    const double floor_x = std::floor(x);
    const double floor_y = std::floor(y);
    const auto smooth = [](double a) { return a * a * (3.0 - 2.0 * a); };
    const double u = smooth(x - floor_x);
    const double v = smooth(y - floor_y);
    const auto i = static_cast<std::int64_t>(floor_x);
    const auto j = static_cast<std::int64_t>(floor_y);
    const double top = std::lerp(lattice(key, i, j), lattice(key, i + 1, j), u);
    const double bottom = std::lerp(lattice(key, i, j + 1), lattice(key, i + 1, j + 1), u);
    return std::lerp(top, bottom, v);
}

double clouds(std::uint64_t key, double x, double y) {
    return (4.0 * noise(key, x, y) + 2.0 * noise(key + 1, 2 * x, 2 * y) +
            noise(key + 2, 4 * x, 4 * y)) /
           7.0;
}

bool odd(double x) {
    return std::fmod(std::abs(std::floor(x)), 2.0) == 1.0;
}

/// A point of the floor as seen from above: a plane that vanishes some way above the horizon.
struct FloorPoint {
    double across;
    double along;
};
FloorPoint on_floor(double x, double below_horizon) {
    const double depth = 46.0 / (below_horizon + 30.0);
    return {x * depth, 120.0 * depth};
}

Colour wall(const Setting& setting, double x, double above) {
    const Colour base = from_hsl(setting.wall_hue, 0.20, 0.74);
    if (above < 2.5) {
        return shade(base, 0.78);  // skirting board
    }
    const double grain = noise(setting.grain + 7, x / 5.0, above / 5.0) - 0.5;
    return shade(base, 0.98 + 0.05 * grain - 0.0015 * above);
}

}  // namespace

Colour background(const Setting& setting, const World& world, Point point) {
    const double x = point.x - world.width / 2;
    const double below = point.y - (world.height - 96.0 + kHorizon);
    const double grain = noise(setting.grain, point.x / 3.0, point.y / 2.0) - 0.5;
    switch (setting.family) {
        case Family::kChecker: {
            if (below < 0.0) {
                return wall(setting, x, -below);
            }
            const FloorPoint floor = on_floor(x, below);
            const bool dark = odd(floor.across / 13.0) != odd(floor.along / 15.0);
            return shade(from_hsl(setting.hue, 0.24, dark ? 0.50 : 0.68), 1.0 + 0.05 * grain);
        }
        case Family::kStripes: {
            if (below < 0.0) {
                return wall(setting, x, -below);
            }
            const double board = on_floor(x, below).across / 8.0;
            const double tone =
                lattice(setting.grain + 3, static_cast<std::int64_t>(std::floor(board)), 0);
            const double seam = board - std::floor(board) < 0.10 ? 0.80 : 1.0;
            const double vein = noise(setting.grain + 4, board * 6.0, below / 9.0) - 0.5;
            return shade(from_hsl(0.06 + 0.08 * setting.hue, 0.28, odd(board) ? 0.60 : 0.50),
                         seam * (0.96 + 0.10 * tone + 0.10 * vein));
        }
        case Family::kMeadow: {
            const double hill = 3.0 * noise(setting.grain + 5, point.x / 38.0, 0.5) - 1.5;
            if (below < hill) {
                const double cover = clouds(setting.grain, point.x / 34.0, point.y / 13.0);
                const double amount = std::clamp((cover - 0.46) / 0.16, 0.0, 1.0);
                const Colour sky =
                    from_hsl(0.55 + 0.05 * setting.hue, 0.38, 0.70 + 0.003 * (below + 38.0));
                return blend(sky, {0.93, 0.94, 0.95}, 0.85 * amount);
            }
            const double patches = clouds(setting.grain + 11, point.x / 20.0, point.y / 9.0) - 0.5;
            const double blades = noise(setting.grain + 13, point.x / 1.2, point.y / 3.5) - 0.5;
            return shade(from_hsl(0.20 + 0.10 * setting.hue, 0.26, 0.54),
                         1.0 + 0.35 * patches + 0.16 * blades);
        }
        case Family::kDots: {
            const double fall = point.y / world.height;
            const Colour base = blend(from_hsl(setting.wall_hue, 0.26, 0.76),
                                      from_hsl(setting.hue, 0.26, 0.54), fall);
            const double row = std::floor(point.y / 11.0);
            const double shifted = x + (odd(row) ? 6.5 : 0.0);
            const Point cell = {shifted - 13.0 * std::floor(shifted / 13.0) - 6.5,
                                point.y - 11.0 * row - 5.5};
            const double dot = std::hypot(cell.x, cell.y) < 2.6 ? 1.16 : 1.0;
            return shade(base, dot + 0.03 * grain);
        }
    }
    return {};
}

}  // namespace matrix::synth
