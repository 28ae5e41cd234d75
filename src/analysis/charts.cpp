#include "matrix/analysis/charts.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "analysis/short_number.h"
#include "matrix/core/markup.h"
#include "matrix/media/draw.h"

namespace matrix::analysis {
namespace {

// All lengths in units of the view box.
constexpr double kWidth = 360, kLeft = 34, kHead = 24, kBottom = 22, kRight = 10;
constexpr double kFontSize = 11;
constexpr const char* kBlue = "#2b6cb0";
constexpr const char* kOrange = "#d9730d";
constexpr const char* kGrey = "#9aa3af";
constexpr const char* kInk = "#1c2430";
// One for each analysis in a chart.
constexpr const char* kSeries[] = {kGrey, kBlue};

/// A picture that grows downwards with its layers.
class Svg {
public:
    Svg(const std::string& title, double height) {
        const std::string h = short_number(height);
        text_ = R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 )" + short_number(kWidth) +
                " " + h + R"(" role="img" font-family="system-ui, sans-serif" font-size=")" +
                short_number(kFontSize) + R"("><title>)" + escaped_markup(title) +
                R"(</title><rect width="100%" height="100%" fill="#fff"/>)";
        text(0, 13, title, "start", true);
    }
    void rect(double x, double y, double width, double height, const std::string& fill,
              const std::string& hint) {
        text_ += R"(<rect x=")" + short_number(x) + R"(" y=")" + short_number(y) + R"(" width=")" +
                 short_number(std::max(width, 0.0)) + R"(" height=")" + short_number(height) +
                 R"(" fill=")" + fill + R"("><title>)" + escaped_markup(hint) + "</title></rect>";
    }
    void line(double x1, double y1, double x2, double y2, const std::string& color) {
        text_ += R"(<path d="M)" + short_number(x1) + " " + short_number(y1) + "L" +
                 short_number(x2) + " " + short_number(y2) + R"(" stroke=")" + color +
                 R"(" fill="none"/>)";
    }
    void circle(double x, double y, const std::string& fill, const std::string& hint) {
        text_ += R"(<circle cx=")" + short_number(x) + R"(" cy=")" + short_number(y) +
                 R"(" r="3.2" fill=")" + fill + R"("><title>)" + escaped_markup(hint) +
                 "</title></circle>";
    }
    void text(double x, double y, const std::string& said, const char* anchor, bool bold = false) {
        text_ += R"(<text x=")" + short_number(x) + R"(" y=")" + short_number(y) +
                 R"(" text-anchor=")" + anchor + R"(" fill=")" + kInk + '"' +
                 (bold ? R"( font-weight="600")" : "") + '>' + escaped_markup(said) + "</text>";
    }
    [[nodiscard]] std::string finish() const { return text_ + "</svg>\n"; }

private:
    std::string text_;
};

double row_height(std::size_t rows) {
    return rows <= 16 ? 18 : 12;
}

double chart_height(std::size_t rows) {
    return kHead + static_cast<double>(rows) * row_height(rows) + kBottom;
}

bool contains(const std::vector<std::int64_t>& layers, std::int64_t layer) {
    return std::ranges::find(layers, layer) != layers.end();
}

std::string hex(media::Color color) {
    char text[8];
    std::snprintf(text, sizeof text, "#%02x%02x%02x", color[0], color[1], color[2]);
    return text;
}

/// Layer numbers at the left; chosen ones bold with a mark.
void layer_axis(Svg& svg, const std::vector<std::int64_t>& layers,
                const std::vector<std::int64_t>& marked) {
    const double height = row_height(layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const bool chosen = contains(marked, layers[i]);
        svg.text(kLeft - 6, kHead + (static_cast<double>(i) + 0.5) * height + 4,
                 (chosen ? "\u25b8 " : "") + std::to_string(layers[i]), "end", chosen);
    }
}

template <typename Layer>
std::vector<std::int64_t> numbers_of(const std::vector<Layer>& layers) {
    std::vector<std::int64_t> numbers;
    for (const Layer& layer : layers) {
        numbers.push_back(layer.layer);
    }
    return numbers;
}

void legend(Svg& svg, double y, const std::vector<std::pair<std::string, std::string>>& entries) {
    double x = kLeft;
    for (const auto& [color, label] : entries) {
        svg.rect(x, y - 8, 9, 9, color, label);
        svg.text(x + 13, y, label, "start");
        x += 13 + 6.4 * static_cast<double>(label.size()) + 14;
    }
}

}  // namespace

double largest(const std::vector<std::vector<double>>& values) {
    double maximum = 0;
    for (const auto& row : values) {
        for (const double value : row) {
            maximum = std::isnan(value) ? maximum : std::max(maximum, value);
        }
    }
    return maximum;
}

std::string heat_map_svg(const HeatMap& map) {
    const std::size_t layers = map.values.size(), steps = map.timesteps.size();
    Svg svg(map.title, chart_height(layers));
    std::vector<std::int64_t> numbers;
    const double height = row_height(layers);
    const double width =
        (kWidth - kLeft - kRight) / static_cast<double>(std::max<std::size_t>(steps, 1));
    for (std::size_t l = 0; l < layers; ++l) {
        numbers.push_back(static_cast<std::int64_t>(l));
        for (std::size_t s = 0; s < steps; ++s) {
            const double value = map.values[l][s];
            const std::string fill =
                std::isnan(value)
                    ? "#d5d8dd"
                    : hex(media::heat_color(map.maximum > 0 ? value / map.maximum : 0));
            svg.rect(kLeft + static_cast<double>(s) * width,
                     kHead + static_cast<double>(l) * height, width, height, fill,
                     "layer " + std::to_string(l) + ", timestep " +
                         std::to_string(map.timesteps[s]) + ": " +
                         (std::isnan(value) ? "no score" : short_number(value)));
        }
    }
    layer_axis(svg, numbers, map.marked);
    // As many labels as there is room for.
    const std::size_t every = std::max<std::size_t>(1, (steps + 7) / 8);
    for (std::size_t s = 0; s < steps; s += every) {
        svg.text(kLeft + (static_cast<double>(s) + 0.5) * width,
                 kHead + static_cast<double>(layers) * height + 15,
                 (s == 0 ? "t=" : "") + std::to_string(map.timesteps[s]), "middle");
    }
    return svg.finish();
}

std::string influence_svg(const std::string& title, const std::vector<InfluenceSeries>& series,
                          const std::vector<std::int64_t>& marked) {
    const std::vector<LayerInfluence>& longest =
        std::ranges::max_element(series, {}, [](const InfluenceSeries& one) {
            return one.layers.size();
        })->layers;
    const std::size_t rows = longest.size();
    double maximum = 0;
    for (const InfluenceSeries& one : series) {
        for (const LayerInfluence& layer : one.layers) {
            maximum = std::isnan(layer.magnitude) ? maximum : std::max(maximum, layer.magnitude);
        }
    }
    Svg svg(title, chart_height(rows));
    layer_axis(svg, numbers_of(longest), marked);
    const double height = row_height(rows);
    const double bar = (height - 3) / static_cast<double>(series.size());
    const double room = kWidth - kLeft - kRight - 58;
    for (std::size_t i = 0; i < series.size(); ++i) {
        const char* color = kSeries[series.size() == 1 ? 1 : std::min<std::size_t>(i, 1)];
        for (std::size_t l = 0; l < series[i].layers.size(); ++l) {
            const LayerInfluence& layer = series[i].layers[l];
            const double y = kHead + static_cast<double>(l) * height + 1.5;
            const double width =
                maximum > 0 && !std::isnan(layer.magnitude) ? layer.magnitude / maximum * room : 0;
            svg.rect(kLeft, y + static_cast<double>(i) * bar, width, bar,
                     layer.dummy ? "#e3e6ea" : color,
                     series[i].label + ", layer " + std::to_string(layer.layer) + ": score " +
                         short_number(layer.magnitude) + ", in the top " + std::to_string(kTop) +
                         " of " + std::to_string(layer.frequency) + " videos, rank sum " +
                         short_number(layer.rank_sum) +
                         (layer.dummy ? " (dummy: does not depend on the prompt)" : ""));
            if (i + 1 == series.size()) {
                svg.text(
                    kWidth - kRight, y + height / 2 + 2,
                    std::to_string(layer.frequency) + "/" + std::to_string(series[i].num_videos),
                    "end", layer.influential);
            }
        }
    }
    std::vector<std::pair<std::string, std::string>> entries;
    for (std::size_t i = 0; i < series.size() && series.size() > 1; ++i) {
        entries.emplace_back(kSeries[std::min<std::size_t>(i, 1)], series[i].label);
    }
    const double y = kHead + static_cast<double>(rows) * height + 15;
    legend(svg, y, entries);
    svg.text(kWidth - kRight, y, "top 10", "end");
    return svg.finish();
}

std::string dominance_svg(const std::string& title, const std::vector<LayerDominance>& layers) {
    double extent = 0;
    for (const LayerDominance& layer : layers) {
        extent = std::max({extent, std::abs(layer.gap_success), std::abs(layer.gap_failure)});
    }
    Svg svg(title, chart_height(layers.size()));
    std::vector<std::int64_t> dominant;
    const double height = row_height(layers.size());
    const double middle = (kLeft + kWidth - kRight) / 2;
    const double room = (kWidth - kRight - kLeft) / 2;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const LayerDominance& layer = layers[i];
        if (layer.dominant) {
            dominant.push_back(layer.layer);
        }
        const double y = kHead + static_cast<double>(i) * height + 1.5;
        const auto draw = [&](double gap, double at, const char* color, const char* who) {
            const double length = extent > 0 ? std::abs(gap) / extent * room : 0;
            svg.rect(
                gap < 0 ? middle - length : middle, at, length, (height - 3) / 2, color,
                "layer " + std::to_string(layer.layer) + ", " + who + ": " + short_number(gap));
        };
        draw(layer.gap_success, y, kBlue, "successes");
        draw(layer.gap_failure, y + (height - 3) / 2, kOrange, "failures");
    }
    layer_axis(svg, numbers_of(layers), dominant);
    const double end = kHead + static_cast<double>(layers.size()) * height;
    svg.line(middle, kHead, middle, end, kInk);
    legend(svg, end + 15, {{kBlue, "successes less mean"}, {kOrange, "failures less mean"}});
    return svg.finish();
}

std::string variance_svg(const std::string& title, const std::vector<LayerVariance>& v2t,
                         const std::vector<LayerVariance>& v2v) {
    const auto spread = [](const LayerVariance& layer) {
        const double square = layer.mean * layer.mean;
        return square > 0 ? std::log10(std::max(layer.variance / square, 1e-30))
                          : std::numeric_limits<double>::quiet_NaN();
    };
    double low = -1, high = 0;
    for (const auto* layers : {&v2t, &v2v}) {
        for (const LayerVariance& layer : *layers) {
            if (!std::isnan(spread(layer))) {
                low = std::min(low, std::floor(spread(layer)));
                high = std::max(high, std::ceil(spread(layer)));
            }
        }
    }
    const std::size_t rows = std::max(v2t.size(), v2v.size());
    Svg svg(title, chart_height(rows));
    layer_axis(svg, numbers_of(v2t.size() >= v2v.size() ? v2t : v2v), {});
    const double height = row_height(rows);
    const auto draw = [&](const std::vector<LayerVariance>& layers, const char* color,
                          const char* what) {
        for (const LayerVariance& layer : layers) {
            if (!std::isnan(spread(layer))) {
                const double x =
                    kLeft + (spread(layer) - low) / (high - low) * (kWidth - kLeft - kRight - 6) +
                    3;
                svg.circle(x, kHead + (static_cast<double>(layer.layer) + 0.5) * height,
                           layer.dummy ? kGrey : color,
                           std::string(what) + ", layer " + std::to_string(layer.layer) +
                               ": variance " + short_number(layer.variance) + ", mean " +
                               short_number(layer.mean));
            }
        }
    };
    draw(v2t, kBlue, "v2t");
    draw(v2v, kOrange, "v2v");
    const double y = kHead + static_cast<double>(rows) * height + 15;
    legend(svg, y, {{kBlue, "v2t"}, {kOrange, "v2v"}});
    svg.text(kWidth - kRight, y, "10^" + short_number(low) + " to 10^" + short_number(high), "end");
    return svg.finish();
}

}  // namespace matrix::analysis
