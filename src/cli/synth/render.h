#pragma once

#include "cli/synth/choreography.h"
#include "cli/synth/figure.h"
#include "cli/synth/scene.h"

#include <cstdint>
#include <vector>

namespace matrix::synth {

/// One frame: 8-bit RGB and, per pixel, whose it is.
struct Picture {
    std::int64_t height_px = 0;
    std::int64_t width_px = 0;
    std::vector<std::uint8_t> rgb;    ///< [height, width, 3]
    std::vector<std::uint8_t> owner;  ///< [height, width]: the ID of the character that covers more
                                      ///< than half of the pixel as seen (in front of others), or 0
};

/// The part of the world that a frame of this size shows.
[[nodiscard]] World world_of(std::int64_t height_px, std::int64_t width_px);

/// Draws one scene's frames: 4 x 4 samples a pixel, each of which sees exactly one character or the
/// background, so that picture and masks agree.
class Renderer {
public:
    Renderer(const Scene& scene, std::int64_t height_px, std::int64_t width_px);

    [[nodiscard]] Picture draw(const std::vector<Pose>& poses) const;

private:
    void draw_pixel(std::int64_t row, std::int64_t column, const std::vector<Figure>& figures,
                    const std::vector<std::size_t>& order, Picture& picture) const;

    Scene scene_;
    World world_;
    std::int64_t height_px_;
    std::int64_t width_px_;
    double units_per_px_;
    std::vector<Colour> backdrop_;  ///< [height, width], without shadows
};

}  // namespace matrix::synth
