#include "cli/pictures/sheet.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "matrix/media/draw.h"
#include "matrix/media/geometry.h"

namespace matrix::cli::pictures {
namespace {

constexpr int kDark = 0;  // what media::label darkens its box to, so that no box shows
constexpr int kWhite = 255;

at::Tensor canvas(std::int64_t height_px, std::int64_t width_px, int value) {
    return at::full({height_px, width_px, 3}, value, at::kByte);
}

/// Bars of text go on in their own colour, pictures in white.
int ground_of(const at::Tensor& picture) {
    return picture.numel() > 0 &&
                   picture.select(1, picture.size(1) - 1).eq(kDark).all().item<bool>()
               ? kDark
               : kWhite;
}

media::Geometry at_width(std::int64_t height_px, std::int64_t width_px, std::int64_t wanted_px) {
    const double factor = static_cast<double>(wanted_px) / static_cast<double>(width_px);
    const auto height =
        static_cast<std::int64_t>(std::lround(factor * static_cast<double>(height_px)));
    return media::fit(height_px, width_px, height, wanted_px, media::Resize::kStretch);
}

}  // namespace

at::Tensor text_line(const std::string& text, double scale) {
    std::int64_t width = 0, lines = 0;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line); ++lines) {
        width = std::max(width, media::text_width_px(line, scale));
    }
    // OpenCV's letters are about 22 px high at scale 1; descenders and leading come on top.
    const auto line_px = static_cast<std::int64_t>(std::ceil(36 * scale));
    return media::label(canvas(lines * line_px + 8, width + 32, kDark), text, 8, 4, scale);
}

at::Tensor beside(const std::vector<at::Tensor>& pictures) {
    std::int64_t height = 0, width = 0;
    for (const at::Tensor& picture : pictures) {
        height = std::max(height, picture.size(0));
        width += picture.size(1);
    }
    at::Tensor out = canvas(height, width, kWhite);
    std::int64_t x = 0;
    for (const at::Tensor& picture : pictures) {
        out.narrow(0, 0, picture.size(0)).narrow(1, x, picture.size(1)).copy_(picture);
        x += picture.size(1);
    }
    return out;
}

at::Tensor below(const std::vector<at::Tensor>& pictures) {
    std::int64_t height = 0, width = 0;
    for (const at::Tensor& picture : pictures) {
        height += picture.size(0);
        width = std::max(width, picture.size(1));
    }
    at::Tensor out = canvas(height, width, kWhite);
    std::int64_t y = 0;
    for (const at::Tensor& picture : pictures) {
        const at::Tensor band = out.narrow(0, y, picture.size(0));
        band.fill_(ground_of(picture));
        band.narrow(1, 0, picture.size(1)).copy_(picture);
        y += picture.size(0);
    }
    return out;
}

at::Tensor with_text_below(const at::Tensor& picture, const std::string& text) {
    return below({picture, media::label(canvas(26, picture.size(1), kDark), text, 2, 2, 0.5)});
}

at::Tensor frames_at_width(const at::Tensor& frames, std::int64_t width_px) {
    return media::resize_frames(frames, at_width(frames.size(1), frames.size(2), width_px));
}

at::Tensor masks_at_width(const at::Tensor& masks, std::int64_t width_px) {
    const media::Geometry geometry = at_width(masks.size(1), masks.size(2), width_px);
    std::vector<at::Tensor> scaled;
    for (std::int64_t i = 0; i < masks.size(0); ++i) {
        scaled.push_back(media::resize_mask(masks[i].contiguous(), geometry));
    }
    return at::stack(scaled);
}

}  // namespace matrix::cli::pictures
