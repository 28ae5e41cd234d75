#include "matrix/media/draw.h"

#include "media/canvas.h"

#include <ATen/ATen.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>

namespace matrix::media {

namespace {

/// [256] RGB.
const std::vector<Color>& heat_table() {
    static const std::vector<Color> table = [] {
        cv::Mat ramp(1, 256, CV_8UC1), bgr;
        for (int i = 0; i < 256; ++i) {
            ramp.at<std::uint8_t>(0, i) = static_cast<std::uint8_t>(i);
        }
        cv::applyColorMap(ramp, bgr, cv::COLORMAP_INFERNO);
        std::vector<Color> colors;
        for (int i = 0; i < 256; ++i) {
            const auto& pixel = bgr.at<cv::Vec3b>(0, i);
            colors.push_back({pixel[2], pixel[1], pixel[0]});
        }
        return colors;
    }();
    return table;
}

std::vector<std::string> lines_of(std::string_view text) {
    std::vector<std::string> lines(1);
    for (const char c : text) {
        if (c == '\n') {
            lines.emplace_back();
        } else {
            lines.back() += c;
        }
    }
    return lines;
}

}  // namespace

Color palette_color(std::size_t index) {
    // Okabe and Ito's colours without the yellow, which white swallows.
    static constexpr Color kColors[] = {{0, 114, 178},   {213, 94, 0},   {0, 158, 115},
                                        {204, 121, 167}, {230, 159, 0},  {86, 180, 233},
                                        {90, 90, 90},    {120, 60, 160}, {150, 110, 60}};
    return kColors[index % std::size(kColors)];
}

Color heat_color(double value) {
    const double clamped = std::isfinite(value) ? std::clamp(value, 0.0, 1.0) : 0.0;
    return heat_table()[static_cast<std::size_t>(std::lround(clamped * 255.0))];
}

at::Tensor overlay_heat(const at::Tensor& frame, const at::Tensor& map, double minimum,
                        double maximum, double opacity) {
    at::Tensor out = canvas::copy_of(frame, "overlay_heat");
    TORCH_CHECK(map.defined() && map.dim() == 2 && map.numel() > 0 && map.is_floating_point(),
                "overlay_heat: a floating-point map [gh, gw] wanted");
    TORCH_CHECK(maximum > minimum, "overlay_heat: an empty range of values");
    const at::Tensor values = map.detach().cpu().to(at::kFloat).contiguous();
    const at::Tensor finite = values.isfinite();
    const at::Tensor known = at::where(finite, values, at::full_like(values, minimum)).contiguous();
    const at::Tensor inside = finite.to(at::kFloat).contiguous();

    cv::Mat image = canvas::view(out);
    cv::Mat smooth, cover;
    const cv::Mat coarse(static_cast<int>(map.size(0)), static_cast<int>(map.size(1)), CV_32F,
                         known.data_ptr());
    const cv::Mat coarse_cover(coarse.rows, coarse.cols, CV_32F, inside.data_ptr());
    // Linear, since a cubic would show values that the map does not hold.
    cv::resize(coarse, smooth, image.size(), 0, 0, cv::INTER_LINEAR);
    cv::resize(coarse_cover, cover, image.size(), 0, 0, cv::INTER_NEAREST);
    for (int row = 0; row < image.rows; ++row) {
        for (int column = 0; column < image.cols; ++column) {
            const double weight = opacity * static_cast<double>(cover.at<float>(row, column));
            const double value = static_cast<double>(smooth.at<float>(row, column));
            const Color color = heat_color((value - minimum) / (maximum - minimum));
            auto& pixel = image.at<cv::Vec3b>(row, column);
            for (int c = 0; c < 3; ++c) {
                pixel[c] = static_cast<std::uint8_t>(
                    std::lround((1.0 - weight) * pixel[c] + weight * color[std::size_t(c)]));
            }
        }
    }
    return out;
}

at::Tensor outline_mask(const at::Tensor& frame, const at::Tensor& mask, Color color,
                        int thickness_px) {
    at::Tensor out = canvas::copy_of(frame, "outline_mask");
    TORCH_CHECK(mask.defined() && mask.dim() == 2 && mask.size(0) == frame.size(0) &&
                    mask.size(1) == frame.size(1),
                "outline_mask: a mask of the frame's size wanted");
    const at::Tensor inside = mask.cpu().ne(0).to(at::kByte).contiguous();
    std::vector<std::vector<cv::Point>> borders;
    cv::findContours(canvas::view(inside), borders, cv::RETR_CCOMP, cv::CHAIN_APPROX_NONE);
    cv::Mat image = canvas::view(out);
    cv::drawContours(image, borders, -1, cv::Scalar(20, 20, 20), thickness_px + 2, cv::LINE_AA);
    cv::drawContours(image, borders, -1, canvas::scalar(color), thickness_px, cv::LINE_AA);
    return out;
}

at::Tensor label(const at::Tensor& frame, std::string_view text, std::int64_t x_px,
                 std::int64_t y_px, double scale, Color color) {
    at::Tensor out = canvas::copy_of(frame, "label");
    cv::Mat image = canvas::view(out);
    const std::vector<std::string> lines = lines_of(text);
    const int line_height = canvas::line_height_px(scale);
    const int margin = std::max(2, line_height / 4);
    int width = 0;
    for (const std::string& line : lines) {
        width = std::max(width, canvas::width_px(line, scale));
    }
    const cv::Rect whole(0, 0, image.cols, image.rows);
    const cv::Rect box =
        cv::Rect(static_cast<int>(x_px), static_cast<int>(y_px), width + 2 * margin,
                 line_height * static_cast<int>(lines.size()) + margin) &
        whole;
    if (box.area() == 0) {
        return out;
    }
    cv::Mat ground = image(box);
    ground.convertTo(ground, -1, 0.35);
    int y = static_cast<int>(y_px) + margin / 2;
    for (const std::string& line : lines) {
        canvas::text(image, line, static_cast<int>(x_px) + margin, y, scale, color);
        y += line_height;
    }
    return out;
}

std::int64_t text_width_px(std::string_view text, double scale) {
    return canvas::width_px(text, scale);
}

at::Tensor tile(const Grid& grid) {
    std::int64_t height = 0, width = 0;
    std::size_t num_columns = grid.column_captions.size();
    for (const auto& row : grid.rows) {
        num_columns = std::max(num_columns, row.size());
        for (const at::Tensor& picture : row) {
            if (!picture.defined()) {
                continue;
            }
            TORCH_CHECK(
                picture.dim() == 3 && picture.size(2) == 3 && picture.scalar_type() == at::kByte &&
                    (height == 0 || (picture.size(0) == height && picture.size(1) == width)),
                "tile: uint8 [H, W, 3] pictures of one size wanted");
            height = picture.size(0);
            width = picture.size(1);
        }
    }
    TORCH_CHECK(height > 0, "tile: no picture");
    TORCH_CHECK(grid.row_captions.empty() || grid.row_captions.size() == grid.rows.size(),
                "tile: one caption per row wanted");

    const std::int64_t gap = grid.gap_px;
    const double title_scale = grid.text_scale * 1.3;
    const int line = canvas::line_height_px(grid.text_scale);
    std::int64_t left = gap;
    for (const std::string& caption : grid.row_captions) {
        for (const std::string& part : lines_of(caption)) {
            left = std::max(left, canvas::width_px(part, grid.text_scale) + 3 * gap);
        }
    }
    const std::int64_t title_height =
        grid.title.empty() ? 0 : canvas::line_height_px(title_scale) + gap;
    const std::int64_t top =
        gap + title_height + (grid.column_captions.empty() ? 0 : line + gap / 2);
    const auto num_rows = static_cast<std::int64_t>(grid.rows.size());
    const std::int64_t picture_width = static_cast<std::int64_t>(num_columns) * (width + gap);
    const std::int64_t title_width =
        grid.title.empty() ? 0 : canvas::width_px(grid.title, title_scale, true) + 2 * gap;
    at::Tensor out = canvas::blank(top + num_rows * (height + gap),
                                   std::max(left + picture_width, title_width), {255, 255, 255});
    cv::Mat image = canvas::view(out);
    if (!grid.title.empty()) {
        canvas::text(image, grid.title, static_cast<int>(gap), static_cast<int>(gap), title_scale,
                     canvas::kInk, canvas::Align::kLeft, true);
    }
    for (std::size_t column = 0; column < grid.column_captions.size(); ++column) {
        const std::int64_t x = left + static_cast<std::int64_t>(column) * (width + gap) + width / 2;
        canvas::text(image, grid.column_captions[column], static_cast<int>(x),
                     static_cast<int>(gap + title_height), grid.text_scale, canvas::kInk,
                     canvas::Align::kCentre);
    }
    for (std::size_t row = 0; row < grid.rows.size(); ++row) {
        const std::int64_t y = top + static_cast<std::int64_t>(row) * (height + gap);
        for (std::size_t column = 0; column < grid.rows[row].size(); ++column) {
            const at::Tensor& picture = grid.rows[row][column];
            if (picture.defined()) {
                const std::int64_t x = left + static_cast<std::int64_t>(column) * (width + gap);
                out.narrow(0, y, height).narrow(1, x, width).copy_(picture);
            }
        }
        if (!grid.row_captions.empty()) {
            const std::vector<std::string> parts = lines_of(grid.row_captions[row]);
            std::int64_t text_y = y + (height - line * static_cast<std::int64_t>(parts.size())) / 2;
            for (const std::string& part : parts) {
                canvas::text(image, part, static_cast<int>(left - gap - gap / 2),
                             static_cast<int>(text_y), grid.text_scale, canvas::kInk,
                             canvas::Align::kRight);
                text_y += line;
            }
        }
    }
    return out;
}

}  // namespace matrix::media
