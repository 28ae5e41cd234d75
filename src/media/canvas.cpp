#include "media/canvas.h"

#include <ATen/ATen.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>

namespace matrix::media::canvas {

namespace {

constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;

int stroke_px(double scale, bool bold) {
    return std::max(1, static_cast<int>(std::lround(scale * (bold ? 2.3 : 1.8))));
}

}  // namespace

at::Tensor blank(std::int64_t height_px, std::int64_t width_px, Color color) {
    at::Tensor image = at::empty({height_px, width_px, 3}, at::kByte);
    view(image).setTo(scalar(color));
    return image;
}

cv::Mat view(const at::Tensor& image) {
    TORCH_CHECK(image.is_contiguous(), "a contiguous image wanted");
    return {static_cast<int>(image.size(0)), static_cast<int>(image.size(1)),
            image.dim() == 3 ? CV_8UC3 : CV_8UC1, image.data_ptr()};
}

at::Tensor copy_of(const at::Tensor& image, const char* what) {
    TORCH_CHECK(image.defined() && image.scalar_type() == at::kByte && image.dim() == 3 &&
                    image.size(2) == 3 && image.numel() > 0,
                what, ": uint8 [H, W, 3] wanted");
    return image.cpu().clone(at::MemoryFormat::Contiguous);
}

cv::Scalar scalar(Color color) {
    return {double(color[0]), double(color[1]), double(color[2])};
}

int line_height_px(double scale) {
    return static_cast<int>(std::lround(32.0 * scale));
}

int width_px(std::string_view text, double scale, bool bold) {
    int baseline = 0;
    return cv::getTextSize(std::string(text), kFont, scale, stroke_px(scale, bold), &baseline)
        .width;
}

void text(cv::Mat& image, std::string_view text, int x_px, int y_px, double scale, Color color,
          Align align, bool bold) {
    const int width = width_px(text, scale, bold);
    const int left = align == Align::kLeft     ? x_px
                     : align == Align::kCentre ? x_px - width / 2
                                               : x_px - width;
    // Capitals are 21 units high and stand 3 below the top of the line's box.
    const int baseline = y_px + static_cast<int>(std::lround(24.0 * scale));
    cv::putText(image, std::string(text), cv::Point(left, baseline), kFont, scale, scalar(color),
                stroke_px(scale, bold), cv::LINE_AA);
}

}  // namespace matrix::media::canvas
