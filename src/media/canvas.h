#pragma once

#include "matrix/media/draw.h"

#include <ATen/core/Tensor.h>

#include <string>

namespace cv {
class Mat;
template <typename T>
class Scalar_;
}  // namespace cv

// What all pictures share: a view of a tensor for OpenCV, and text.

namespace matrix::media::canvas {

inline constexpr Color kInk = {38, 38, 38};
inline constexpr Color kFaintInk = {110, 110, 110};

/// [H, W, 3] of one colour.
[[nodiscard]] at::Tensor blank(std::int64_t height_px, std::int64_t width_px, Color color);

/// OpenCV's view of a contiguous uint8 [H, W, 3] or [H, W] tensor; the tensor owns the pixels.
[[nodiscard]] cv::Mat view(const at::Tensor& image);

/// TORCH_CHECK that `image` is uint8 [H, W, 3]; a contiguous copy to draw on.
[[nodiscard]] at::Tensor copy_of(const at::Tensor& image, const char* what);

[[nodiscard]] cv::Scalar_<double> scalar(Color color);

/// Height of a line of text with its descenders, and the width of `text`, in pixels.
[[nodiscard]] int line_height_px(double scale);
[[nodiscard]] int width_px(std::string_view text, double scale, bool bold = false);

enum class Align { kLeft, kCentre, kRight };

/// Draws one line whose box has its top at `y_px`, and its left edge, centre or right edge at
/// `x_px`.
void text(cv::Mat& image, std::string_view text, int x_px, int y_px, double scale, Color color,
          Align align = Align::kLeft, bool bold = false);

}  // namespace matrix::media::canvas
