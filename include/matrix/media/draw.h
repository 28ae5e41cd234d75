#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Pictures of results: every image is [H, W, 3] uint8 RGB on the CPU. Text is ASCII, drawn with
// OpenCV's strokes.

namespace matrix::media {

using Color = std::array<std::uint8_t, 3>;

/// Distinct on white and on pictures; for series, outlines and IDs beyond the five of the ID map.
[[nodiscard]] Color palette_color(std::size_t index);

/// A perceptually ordered map from dark violet over red to pale yellow (the anchors are
/// Matplotlib's "inferno"); `value` is clamped to [0, 1].
[[nodiscard]] Color heat_color(double value);

/// Lays a [gh, gw] floating-point map over `frame`: smoothly enlarged, values from `minimum` to
/// `maximum` on the heat scale, blended by `opacity`. Values that are not finite leave the frame as
/// it is.
[[nodiscard]] at::Tensor overlay_heat(const at::Tensor& frame, const at::Tensor& map,
                                      double minimum, double maximum, double opacity = 0.6);

/// Draws the border of a [H, W] uint8 mask (non-zero is inside), antialiased, with a thin dark rim
/// so that it shows on any ground.
[[nodiscard]] at::Tensor outline_mask(const at::Tensor& frame, const at::Tensor& mask, Color color,
                                      int thickness_px = 2);

/// Writes `text` with its top left corner at (x_px, y_px) on a darkened box; lines are split at
/// '\n'.
[[nodiscard]] at::Tensor label(const at::Tensor& frame, std::string_view text,
                               std::int64_t x_px = 4, std::int64_t y_px = 4, double scale = 0.5,
                               Color color = {255, 255, 255});

/// Width in pixels of one line of text at `scale`.
[[nodiscard]] std::int64_t text_width_px(std::string_view text, double scale);

/// Pictures in rows on white, captions above the columns and to the left of the rows; either list
/// may be empty. All pictures have one size; an undefined tensor leaves its place blank.
struct Grid {
    std::vector<std::vector<at::Tensor>> rows;
    std::vector<std::string> row_captions;
    std::vector<std::string> column_captions;
    std::string title;
    std::int64_t gap_px = 6;
    double text_scale = 0.5;
};
[[nodiscard]] at::Tensor tile(const Grid& grid);

/// A line plot on white. NaN ends a line and starts the next.
struct Plot {
    struct Series {
        std::string label;  ///< not in the legend if empty
        std::vector<double> x;
        std::vector<double> y;
        /// Smoothing window in points, drawn as the line over the pale raw values; 1 draws the
        /// values alone.
        std::int64_t smooth = 1;
    };
    struct Reference {
        std::string label;
        double y = 0.0;
    };
    std::string title;
    std::string x_label;
    std::string y_label;
    std::vector<Series> series;
    std::vector<Reference> references;  ///< dashed horizontal lines, labelled at their right end
    bool log_y = false;                 ///< values that are not positive are left out
    std::int64_t width_px = 640;        ///< before `pixel_ratio`
    std::int64_t height_px = 400;
    int pixel_ratio = 2;  ///< everything, text included, this many times larger
};
[[nodiscard]] at::Tensor draw_plot(const Plot& plot);

}  // namespace matrix::media
