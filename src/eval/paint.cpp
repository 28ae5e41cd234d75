#include "eval/paint.h"

#include <algorithm>
#include <array>

namespace matrix::eval {

media::Color object_color(std::size_t index) {
    constexpr std::array<media::Color, 6> kColors = {
        {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 0}, {255, 0, 255}, {0, 255, 255}}};
    return kColors.at(index);
}

PixelBox bounds(const at::Tensor& mask) {
    const std::int64_t height = mask.size(0);
    const std::int64_t width = mask.size(1);
    const auto* pixel = mask.const_data_ptr<std::uint8_t>();
    PixelBox box{height, width, -1, -1};
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x, ++pixel) {
            if (*pixel != 0) {
                box = {std::min(box.top, y), std::min(box.left, x), y, std::max(box.right, x)};
            }
        }
    }
    return box;
}

void draw_box(at::Tensor& frame, const PixelBox& box, media::Color color) {
    if (box.empty()) {
        return;
    }
    const std::int64_t height = frame.size(0);
    const std::int64_t width = frame.size(1);
    auto* pixels = frame.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t y = std::max<std::int64_t>(0, box.top - 1);
         y <= std::min(height - 1, box.bottom + 1); ++y) {
        for (std::int64_t x = std::max<std::int64_t>(0, box.left - 1);
             x <= std::min(width - 1, box.right + 1); ++x) {
            const bool inside = y > box.top && y < box.bottom && x > box.left && x < box.right;
            if (!inside) {
                std::copy(color.begin(), color.end(), pixels + 3 * (y * width + x));
            }
        }
    }
}

void tint(at::Tensor& frame, const at::Tensor& mask, media::Color color) {
    const std::int64_t count = mask.numel();
    const auto* inside = mask.const_data_ptr<std::uint8_t>();
    auto* pixels = frame.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t c = 0; inside[i] != 0 && c < 3; ++c) {
            std::uint8_t& value = pixels[3 * i + c];
            value = static_cast<std::uint8_t>((value + color[static_cast<std::size_t>(c)] + 1) / 2);
        }
    }
}

}  // namespace matrix::eval
