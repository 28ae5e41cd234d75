#include "cli/synth/render.h"

#include "cli/synth/background.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace matrix::synth {
namespace {

constexpr int kSamples = 4;  // per axis and pixel

std::uint8_t to_byte(double value) {
    return static_cast<std::uint8_t>(std::lround(255.0 * std::clamp(value, 0.0, 1.0)));
}

}  // namespace

World world_of(std::int64_t height_px, std::int64_t width_px) {
    const World smallest;
    const double units_per_px = std::max(smallest.height / static_cast<double>(height_px),
                                         smallest.width / static_cast<double>(width_px));
    return {units_per_px * static_cast<double>(height_px),
            units_per_px * static_cast<double>(width_px)};
}

Renderer::Renderer(const Scene& scene, std::int64_t height_px, std::int64_t width_px)
    : scene_(scene),
      world_(world_of(height_px, width_px)),
      height_px_(height_px),
      width_px_(width_px),
      units_per_px_(world_.height / static_cast<double>(height_px)) {
    backdrop_.reserve(static_cast<std::size_t>(height_px * width_px));
    for (std::int64_t row = 0; row < height_px; ++row) {
        for (std::int64_t column = 0; column < width_px; ++column) {
            Colour sum;
            for (int i = 0; i < kSamples * kSamples; ++i) {
                const double x = static_cast<double>(column) + (i % kSamples + 0.5) / kSamples;
                const double y = static_cast<double>(row) + (i / kSamples + 0.5) / kSamples;
                const Colour colour =
                    background(scene.setting, world_, {x * units_per_px_, y * units_per_px_});
                sum = {sum.red + colour.red, sum.green + colour.green, sum.blue + colour.blue};
            }
            constexpr double kShare = 1.0 / (kSamples * kSamples);
            backdrop_.push_back({sum.red * kShare, sum.green * kShare, sum.blue * kShare});
        }
    }
}

void Renderer::draw_pixel(std::int64_t row, std::int64_t column, const std::vector<Figure>& figures,
                          const std::vector<std::size_t>& order, Picture& picture) const {
    const auto pixel = static_cast<std::size_t>(row * width_px_ + column);
    std::array<int, 8> covered{};
    Colour sum;
    for (int i = 0; i < kSamples * kSamples; ++i) {
        const Point point = {
            (static_cast<double>(column) + (i % kSamples + 0.5) / kSamples) * units_per_px_,
            (static_cast<double>(row) + (i / kSamples + 0.5) / kSamples) * units_per_px_};
        std::optional<Colour> seen;
        for (const std::size_t actor : order) {
            seen = figures[actor].at(point);
            if (seen) {
                ++covered[actor];
                break;
            }
        }
        if (!seen) {
            double light = 1.0;
            for (const Figure& figure : figures) {
                light *= 1.0 - figure.shadow(point);
            }
            seen = shade(backdrop_[pixel], light);
        }
        sum = {sum.red + seen->red, sum.green + seen->green, sum.blue + seen->blue};
    }
    constexpr double kShare = 1.0 / (kSamples * kSamples);
    picture.rgb[3 * pixel] = to_byte(sum.red * kShare);
    picture.rgb[3 * pixel + 1] = to_byte(sum.green * kShare);
    picture.rgb[3 * pixel + 2] = to_byte(sum.blue * kShare);
    for (std::size_t actor = 0; actor < figures.size(); ++actor) {
        if (2 * covered[actor] > kSamples * kSamples) {
            picture.owner[pixel] = static_cast<std::uint8_t>(actor + 1);
        }
    }
}

Picture Renderer::draw(const std::vector<Pose>& poses) const {
    std::vector<Figure> figures;
    for (std::size_t i = 0; i < poses.size(); ++i) {
        figures.emplace_back(scene_.actors[i], poses[i]);
    }
    std::vector<std::size_t> order(figures.size());  // nearest first
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return figures[a].depth() > figures[b].depth();
    });

    Picture picture{height_px_, width_px_, {}, {}};
    picture.rgb.resize(3 * backdrop_.size());
    picture.owner.resize(backdrop_.size(), 0);
    for (std::size_t pixel = 0; pixel < backdrop_.size(); ++pixel) {
        picture.rgb[3 * pixel] = to_byte(backdrop_[pixel].red);
        picture.rgb[3 * pixel + 1] = to_byte(backdrop_[pixel].green);
        picture.rgb[3 * pixel + 2] = to_byte(backdrop_[pixel].blue);
    }
    std::vector<bool> drawn(backdrop_.size(), false);
    const auto draw_box = [&](const Figure::Box& box) {
        const auto first_row =
            std::max<std::int64_t>(0, std::lround(std::floor(box.top / units_per_px_)));
        const auto last_row =
            std::min<std::int64_t>(height_px_ - 1, std::lround(box.bottom / units_per_px_));
        const auto first_column =
            std::max<std::int64_t>(0, std::lround(std::floor(box.left / units_per_px_)));
        const auto last_column =
            std::min<std::int64_t>(width_px_ - 1, std::lround(box.right / units_per_px_));
        for (std::int64_t row = first_row; row <= last_row; ++row) {
            for (std::int64_t column = first_column; column <= last_column; ++column) {
                const auto pixel = static_cast<std::size_t>(row * width_px_ + column);
                if (!drawn[pixel]) {
                    drawn[pixel] = true;
                    draw_pixel(row, column, figures, order, picture);
                }
            }
        }
    };
    for (const Figure& figure : figures) {
        draw_box(figure.shadow_box());
        draw_box(figure.box());
    }
    return picture;
}

}  // namespace matrix::synth
