#include "matrix/media/draw.h"
#include "media/canvas.h"

#include <ATen/ATen.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace matrix::media {

namespace {

constexpr double kTextScale = 0.42;
constexpr double kTitleScale = 0.55;
constexpr Color kGridLine = {228, 228, 228};
constexpr Color kAxisLine = {90, 90, 90};
constexpr Color kReferenceLine = {120, 120, 120};

/// One axis: a range of values (of their decimal logarithms if `log`) and the pixels it covers.
struct Axis {
    double low = std::numeric_limits<double>::infinity();
    double high = -std::numeric_limits<double>::infinity();
    bool log = false;
    double first_px = 0.0;
    double last_px = 0.0;

    [[nodiscard]] bool shows(double value) const {
        return std::isfinite(value) && (!log || value > 0.0);
    }
    [[nodiscard]] double scaled(double value) const { return log ? std::log10(value) : value; }
    void include(double value) {
        if (shows(value)) {
            low = std::min(low, scaled(value));
            high = std::max(high, scaled(value));
        }
    }
    /// Room on both sides; a sensible range where there is none.
    void pad(double share) {
        if (low > high) {
            low = 0.0;
            high = 1.0;
        }
        const double span = high - low;
        const double margin = span > 0.0 ? share * span : std::max(0.05 * std::abs(low), 0.05);
        low -= margin;
        high += margin;
    }
    [[nodiscard]] double pixel(double value) const {
        return first_px + (scaled(value) - low) / (high - low) * (last_px - first_px);
    }
};

struct Tick {
    double value = 0.0;
    std::string text;
};

std::string number_text(double value, int decimals) {
    char text[48];
    const double size = std::abs(value);
    if (size >= 1e6 || (size > 0.0 && size < 1e-4)) {
        std::snprintf(text, sizeof text, "%.3g", value);
    } else {
        std::snprintf(text, sizeof text, "%.*f", decimals, value);
    }
    return text;
}

/// Steps of 1, 2 or 5 times a power of ten.
std::vector<Tick> linear_ticks(const Axis& axis, int wanted) {
    const double rough = (axis.high - axis.low) / wanted;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    const double lead = rough / power;
    const double step = power * (lead <= 1.0 ? 1.0 : lead <= 2.0 ? 2.0 : lead <= 5.0 ? 5.0 : 10.0);
    const int decimals = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 9);
    std::vector<Tick> ticks;
    for (double k = std::ceil(axis.low / step - 1e-9); k * step <= axis.high + 1e-9 * step; ++k) {
        const double value = k == 0.0 ? 0.0 : k * step;
        ticks.push_back({value, number_text(value, decimals)});
    }
    return ticks;
}

/// Powers of ten, and 2 and 5 times these where there are few of them.
std::vector<Tick> log_ticks(const Axis& axis) {
    const bool dense = axis.high - axis.low < 2.5;
    const int stride = std::max(1, static_cast<int>(std::ceil((axis.high - axis.low) / 8.0)));
    std::vector<Tick> ticks;
    for (int power = static_cast<int>(std::floor(axis.low)); power <= axis.high; power += stride) {
        for (const double lead : {1.0, 2.0, 5.0}) {
            const double value = lead * std::pow(10.0, power);
            if ((lead == 1.0 || dense) && axis.scaled(value) >= axis.low &&
                axis.scaled(value) <= axis.high) {
                ticks.push_back({value, number_text(value, std::max(0, -power))});
            }
        }
    }
    // Less than a factor of two on the axis.
    return ticks.size() >= 2 ? ticks : [&] {
        Axis plain = axis;
        plain.low = std::pow(10.0, axis.low);
        plain.high = std::pow(10.0, axis.high);
        return linear_ticks(plain, 5);
    }();
}

/// Mean over a window centred on each point, of the finite values in it; at the ends over what
/// there is of it.
std::vector<double> smoothed(const std::vector<double>& values, std::int64_t window) {
    std::vector<double> out(values.size(), std::numeric_limits<double>::quiet_NaN());
    const auto size = static_cast<std::int64_t>(values.size());
    for (std::int64_t i = 0; i < size; ++i) {
        double sum = 0.0;
        std::int64_t count = 0;
        for (std::int64_t j = std::max<std::int64_t>(0, i - window / 2);
             j <= std::min(size - 1, i + window / 2); ++j) {
            const double value = values[static_cast<std::size_t>(j)];
            if (std::isfinite(value)) {
                sum += value;
                ++count;
            }
        }
        if (count > 0 && std::isfinite(values[static_cast<std::size_t>(i)])) {
            out[static_cast<std::size_t>(i)] = sum / static_cast<double>(count);
        }
    }
    return out;
}

Color paler(Color color) {
    for (std::uint8_t& channel : color) {
        channel = static_cast<std::uint8_t>(255 - (255 - channel) * 3 / 10);
    }
    return color;
}

class Painter {
public:
    explicit Painter(const Plot& plot);
    at::Tensor paint();

private:
    static constexpr int kShift = 4;  ///< OpenCV's sub-pixel bits

    [[nodiscard]] int px(double size) const { return static_cast<int>(std::lround(size * ratio_)); }
    [[nodiscard]] double text_scale() const { return kTextScale * ratio_; }
    void lay_out();
    void line(double x0, double y0, double x1, double y1, Color color, double width);
    void curve(const std::vector<double>& x, const std::vector<double>& y, Color color,
               double width);
    void axes();
    void labels();
    void legend();
    void reference_lines();
    void reference_labels();

    const Plot& plot_;
    double ratio_;
    at::Tensor out_;
    cv::Mat image_;
    Axis x_, y_;
    std::vector<Tick> x_ticks_, y_ticks_;
    int legend_y_ = 0;
};

Painter::Painter(const Plot& plot)
    : plot_(plot),
      ratio_(plot.pixel_ratio),
      out_(canvas::blank(plot.height_px * plot.pixel_ratio, plot.width_px * plot.pixel_ratio,
                         {255, 255, 255})),
      image_(canvas::view(out_)) {
    y_.log = plot.log_y;
    for (const Plot::Series& series : plot.series) {
        TORCH_CHECK(series.x.size() == series.y.size(), "draw_plot: \"", series.label,
                    "\" has as many x as y values wanted");
        for (std::size_t i = 0; i < series.x.size(); ++i) {
            if (y_.shows(series.y[i])) {
                x_.include(series.x[i]);
                y_.include(series.y[i]);
            }
        }
    }
    for (const Plot::Reference& reference : plot.references) {
        y_.include(reference.y);
    }
    x_.pad(0.015);
    y_.pad(0.06);
}

void Painter::lay_out() {
    const int line_height = canvas::line_height_px(text_scale());
    int top = px(12);
    if (!plot_.title.empty()) {
        top += canvas::line_height_px(kTitleScale * ratio_) + px(4);
    }
    legend_y_ = top;
    const bool has_legend = std::any_of(plot_.series.begin(), plot_.series.end(),
                                        [](const auto& series) { return !series.label.empty(); });
    top += has_legend ? line_height + px(8) : px(4);
    y_.first_px = image_.rows - px(14) - line_height - (plot_.x_label.empty() ? 0 : line_height);
    y_.last_px = top;
    y_ticks_ = y_.log ? log_ticks(y_) : linear_ticks(y_, 6);
    int tick_width = 0;
    for (const Tick& tick : y_ticks_) {
        tick_width = std::max(tick_width, canvas::width_px(tick.text, text_scale()));
    }
    x_.first_px = px(18) + tick_width + (plot_.y_label.empty() ? 0 : line_height + px(2));
    x_.last_px = image_.cols - px(20);
    x_ticks_ = linear_ticks(x_, 8);
}

void Painter::line(double x0, double y0, double x1, double y1, Color color, double width) {
    const double unit = 1 << kShift;
    cv::line(image_, cv::Point(cvRound(x0 * unit), cvRound(y0 * unit)),
             cv::Point(cvRound(x1 * unit), cvRound(y1 * unit)), canvas::scalar(color),
             std::max(1, px(width)), cv::LINE_AA, kShift);
}

void Painter::curve(const std::vector<double>& x, const std::vector<double>& y, Color color,
                    double width) {
    const double unit = 1 << kShift;
    std::vector<cv::Point> points;
    const auto flush = [&] {
        if (points.size() > 1) {
            cv::polylines(image_, points, false, canvas::scalar(color), std::max(1, px(width)),
                          cv::LINE_AA, kShift);
        } else if (points.size() == 1) {
            cv::circle(image_, points[0], px(width) << kShift, canvas::scalar(color), cv::FILLED,
                       cv::LINE_AA, kShift);
        }
        points.clear();
    };
    for (std::size_t i = 0; i < x.size(); ++i) {
        if (x_.shows(x[i]) && y_.shows(y[i])) {
            points.emplace_back(cvRound(x_.pixel(x[i]) * unit), cvRound(y_.pixel(y[i]) * unit));
        } else {
            flush();
        }
    }
    flush();
}

void Painter::axes() {
    const int line_height = canvas::line_height_px(text_scale());
    for (const Tick& tick : y_ticks_) {
        const double y = y_.pixel(tick.value);
        line(x_.first_px, y, x_.last_px, y, kGridLine, 0.75);
        canvas::text(image_, tick.text, cvRound(x_.first_px) - px(6), cvRound(y) - line_height / 2,
                     text_scale(), canvas::kInk, canvas::Align::kRight);
    }
    for (const Tick& tick : x_ticks_) {
        const double x = x_.pixel(tick.value);
        line(x, y_.first_px, x, y_.first_px + px(4), kAxisLine, 0.75);
        canvas::text(image_, tick.text, cvRound(x), cvRound(y_.first_px) + px(5), text_scale(),
                     canvas::kInk, canvas::Align::kCentre);
    }
    line(x_.first_px, y_.first_px, x_.last_px, y_.first_px, kAxisLine, 1.0);
    line(x_.first_px, y_.first_px, x_.first_px, y_.last_px, kAxisLine, 1.0);
}

void Painter::labels() {
    const int line_height = canvas::line_height_px(text_scale());
    if (!plot_.title.empty()) {
        canvas::text(image_, plot_.title, cvRound(x_.first_px), px(10), kTitleScale * ratio_,
                     canvas::kInk, canvas::Align::kLeft, true);
    }
    if (!plot_.x_label.empty()) {
        canvas::text(image_, plot_.x_label, cvRound((x_.first_px + x_.last_px) / 2),
                     image_.rows - line_height - px(4), text_scale(), canvas::kFaintInk,
                     canvas::Align::kCentre);
    }
    if (!plot_.y_label.empty()) {
        const int width = canvas::width_px(plot_.y_label, text_scale()) + px(4);
        cv::Mat upright(line_height, width, CV_8UC3, cv::Scalar(255, 255, 255)), turned;
        canvas::text(upright, plot_.y_label, px(2), 0, text_scale(), canvas::kFaintInk);
        cv::rotate(upright, turned, cv::ROTATE_90_COUNTERCLOCKWISE);
        const int middle = cvRound((y_.first_px + y_.last_px) / 2);
        const cv::Rect place(px(4), std::max(0, middle - turned.rows / 2), turned.cols,
                             turned.rows);
        const cv::Rect shown = place & cv::Rect(0, 0, image_.cols, image_.rows);
        turned(shown - place.tl()).copyTo(image_(shown));
    }
}

void Painter::legend() {
    const int line_height = canvas::line_height_px(text_scale());
    int x = cvRound(x_.first_px);
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
        const std::string& text = plot_.series[i].label;
        if (text.empty()) {
            continue;
        }
        const double y = legend_y_ + line_height / 2.0;
        line(x + px(2), y, x + px(20), y, palette_color(i), 2.5);
        canvas::text(image_, text, x + px(26), legend_y_, text_scale(), canvas::kInk);
        x += px(26) + canvas::width_px(text, text_scale()) + px(18);
    }
}

void Painter::reference_lines() {
    for (const Plot::Reference& reference : plot_.references) {
        if (!y_.shows(reference.y)) {
            continue;
        }
        const double y = y_.pixel(reference.y);
        for (double x = x_.first_px; x < x_.last_px; x += px(9)) {
            line(x, y, std::min(x + px(5), x_.last_px), y, kReferenceLine, 1.0);
        }
    }
}

void Painter::reference_labels() {
    const int line_height = canvas::line_height_px(text_scale());
    for (const Plot::Reference& reference : plot_.references) {
        if (reference.label.empty() || !y_.shows(reference.y)) {
            continue;
        }
        const int width = canvas::width_px(reference.label, text_scale());
        const int right = cvRound(x_.last_px) - px(4);
        const int y = cvRound(y_.pixel(reference.y));
        const int above = y - line_height - px(1);
        const int top = above > y_.last_px ? above : y + px(3);
        const cv::Rect box = cv::Rect(right - width - px(3), top, width + px(6), line_height) &
                             cv::Rect(0, 0, image_.cols, image_.rows);
        cv::Mat ground = image_(box);
        ground.convertTo(ground, -1, 0.2, 0.8 * 255.0);
        canvas::text(image_, reference.label, right, top, text_scale(), canvas::kInk,
                     canvas::Align::kRight);
    }
}

at::Tensor Painter::paint() {
    lay_out();
    axes();
    reference_lines();
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
        if (plot_.series[i].smooth > 1) {
            curve(plot_.series[i].x, plot_.series[i].y, paler(palette_color(i)), 1.0);
        }
    }
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
        const Plot::Series& series = plot_.series[i];
        curve(series.x, series.smooth > 1 ? smoothed(series.y, series.smooth) : series.y,
              palette_color(i), 1.8);
    }
    reference_labels();
    labels();
    legend();
    return out_;
}

}  // namespace

at::Tensor draw_plot(const Plot& plot) {
    TORCH_CHECK(plot.width_px >= 160 && plot.height_px >= 120 && plot.pixel_ratio >= 1,
                "draw_plot: at least 160 x 120 pixels wanted");
    return Painter(plot).paint();
}

}  // namespace matrix::media
