#include "cli/import/segmentation.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "matrix/core/error.h"

namespace matrix::imports {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxSidePx = 16384;  // as of a mask PNG
constexpr double kFarthestPx = 1e6;         // of a polygon's points, which may lie outside

Mask empty_mask(std::int64_t height_px, std::int64_t width_px) {
    return {height_px, width_px,
            std::vector<std::uint8_t>(static_cast<std::size_t>(height_px * width_px), 0)};
}

std::string size_text(std::int64_t height_px, std::int64_t width_px) {
    return std::to_string(width_px) + " x " + std::to_string(height_px);
}

void check_size(const json& size, std::int64_t height_px, std::int64_t width_px) {
    const bool pair = size.is_array() && size.size() == 2 && size[0].is_number_integer() &&
                      size[1].is_number_integer();
    if (!pair) {
        throw RunError("its \"size\" must be [height, width]");
    }
    if (size[0] != height_px || size[1] != width_px) {
        throw RunError("its \"size\" is " + size[1].dump() + " x " + size[0].dump() +
                       ", the picture's is " + size_text(height_px, width_px));
    }
}

std::vector<std::int64_t> runs_of(const json& counts) {
    if (counts.is_string()) {
        return decompress_runs(counts.get_ref<const std::string&>());
    }
    const bool integers =
        counts.is_array() && std::ranges::all_of(counts, &json::is_number_integer);
    if (!integers) {
        throw RunError("its \"counts\" must be a string or a list of whole numbers");
    }
    return counts.get<std::vector<std::int64_t>>();
}

struct Point {
    double x = 0, y = 0;
};

std::vector<Point> points_of(const json& polygon) {
    const bool numbers = polygon.is_array() && polygon.size() >= 6 && polygon.size() % 2 == 0 &&
                         std::ranges::all_of(polygon, &json::is_number);
    if (!numbers) {
        throw RunError("a polygon must be a list [x, y, x, y, x, y, ...] of at least three points");
    }
    const bool near = std::ranges::all_of(polygon, [](const json& coordinate) {
        return std::abs(coordinate.get<double>()) <= kFarthestPx;
    });
    if (!near) {
        throw RunError("a polygon has a point more than a million pixels away");
    }
    std::vector<Point> points;
    for (std::size_t i = 0; i < polygon.size(); i += 2) {
        points.push_back({polygon[i].get<double>(), polygon[i + 1].get<double>()});
    }
    return points;
}

/// Where the polygon's edges cross the row of pixel centres at `y`, ascending.
std::vector<double> crossings(const std::vector<Point>& points, double y) {
    std::vector<double> xs;
    for (std::size_t i = 0; i < points.size(); ++i) {
        const Point& a = points[i];
        const Point& b = points[(i + 1) % points.size()];
        if ((a.y <= y) != (b.y <= y)) {
            xs.push_back(a.x + (y - a.y) * (b.x - a.x) / (b.y - a.y));
        }
    }
    std::ranges::sort(xs);
    return xs;
}

void fill_polygon(const std::vector<Point>& points, Mask& mask) {
    const auto column = [&](double x) {  // first pixel whose centre lies at or behind x
        return static_cast<std::int64_t>(
            std::clamp(std::ceil(x - 0.5), 0.0, static_cast<double>(mask.width_px)));
    };
    for (std::int64_t row = 0; row < mask.height_px; ++row) {
        const std::vector<double> xs = crossings(points, static_cast<double>(row) + 0.5);
        auto* pixels = mask.pixels.data() + row * mask.width_px;
        for (std::size_t i = 0; i + 1 < xs.size(); i += 2) {
            std::fill(pixels + column(xs[i]), pixels + column(xs[i + 1]), std::uint8_t{1});
        }
    }
}

}  // namespace

Mask decode_runs(const std::vector<std::int64_t>& runs, std::int64_t height_px,
                 std::int64_t width_px) {
    Mask mask = empty_mask(height_px, width_px);
    const std::int64_t total = height_px * width_px;
    std::int64_t at = 0;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        if (runs[i] < 0 || runs[i] > total - at) {
            throw RunError("its run lengths do not fit " + size_text(height_px, width_px) +
                           " pixels");
        }
        for (std::int64_t k = at; i % 2 == 1 && k < at + runs[i]; ++k) {
            mask.pixels[static_cast<std::size_t>(k % height_px * width_px + k / height_px)] = 1;
        }
        at += runs[i];
    }
    if (at != total) {
        throw RunError("its run lengths cover " + std::to_string(at) + " of " +
                       size_text(height_px, width_px) + " pixels");
    }
    return mask;
}

std::vector<std::int64_t> decompress_runs(std::string_view text) {
    constexpr int kMaxGroups = 7;  // 35 bits: more than any picture has pixels
    std::vector<std::int64_t> runs;
    for (std::size_t i = 0; i < text.size();) {
        std::int64_t value = 0;
        bool goes_on = true;
        for (int group = 0; goes_on; ++group) {
            if (i >= text.size() || text[i] < '0' || text[i] > 'o' || group >= kMaxGroups) {
                throw RunError("its \"counts\" is no compressed string of run lengths (character " +
                               std::to_string(i) + ")");
            }
            const std::int64_t bits = text[i++] - '0';
            value |= (bits & 0x1f) << (5 * group);
            goes_on = (bits & 0x20) != 0;
            if (!goes_on && (bits & 0x10) != 0) {
                value -= std::int64_t{1} << (5 * (group + 1));
            }
        }
        runs.push_back(runs.size() > 2 ? value + runs[runs.size() - 2] : value);
    }
    return runs;
}

Mask read_segmentation(const json& segmentation, std::int64_t height_px, std::int64_t width_px) {
    if (height_px < 1 || width_px < 1 || height_px > kMaxSidePx || width_px > kMaxSidePx) {
        throw RunError("a picture of " + size_text(height_px, width_px) + " pixels is none");
    }
    if (segmentation.is_null()) {
        return empty_mask(height_px, width_px);
    }
    if (segmentation.is_object()) {
        if (!segmentation.contains("size") || !segmentation.contains("counts")) {
            throw RunError("it must have \"size\" and \"counts\"");
        }
        check_size(segmentation["size"], height_px, width_px);
        return decode_runs(runs_of(segmentation["counts"]), height_px, width_px);
    }
    if (!segmentation.is_array()) {
        throw RunError("it must be {\"size\", \"counts\"} or a list of polygons");
    }
    Mask mask = empty_mask(height_px, width_px);
    for (const json& polygon : segmentation) {
        fill_polygon(points_of(polygon), mask);
    }
    return mask;
}

}  // namespace matrix::imports
