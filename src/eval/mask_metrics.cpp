#include "matrix/eval/mask_metrics.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace matrix::eval {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// One mask of a track.
struct View {
    const std::uint8_t* pixels = nullptr;  // [H, W]
    std::int64_t height = 0, width = 0;

    [[nodiscard]] bool at(std::int64_t y, std::int64_t x) const {
        return pixels[y * width + x] != 0;
    }
};

struct Shape {
    std::int64_t area = 0;
    double y = 0.0, x = 0.0;  // centroid
};

Shape shape_of(const View& mask) {
    Shape shape;
    for (std::int64_t y = 0; y < mask.height; ++y) {
        for (std::int64_t x = 0; x < mask.width; ++x) {
            if (mask.at(y, x)) {
                ++shape.area;
                shape.y += static_cast<double>(y);
                shape.x += static_cast<double>(x);
            }
        }
    }
    if (shape.area > 0) {
        shape.y /= static_cast<double>(shape.area);
        shape.x /= static_cast<double>(shape.area);
    }
    return shape;
}

/// IoU of `b` with `a` moved by (dy, dx), over the pixels of the frame that both reach.
double moved_iou(const View& a, const View& b, std::int64_t dy, std::int64_t dx) {
    std::int64_t both = 0, either = 0;
    for (std::int64_t y = std::max<std::int64_t>(dy, 0);
         y < b.height + std::min<std::int64_t>(dy, 0); ++y) {
        for (std::int64_t x = std::max<std::int64_t>(dx, 0);
             x < b.width + std::min<std::int64_t>(dx, 0); ++x) {
            const bool in_a = a.at(y - dy, x - dx), in_b = b.at(y, x);
            both += in_a && in_b ? 1 : 0;
            either += in_a || in_b ? 1 : 0;
        }
    }
    return either == 0 ? 0.0 : static_cast<double>(both) / static_cast<double>(either);
}

/// Grown by `radius` along one axis: `count` lines of `length` pixels `step` apart.
void grow_lines(Bytes& mask, std::int64_t count, std::int64_t line_step, std::int64_t length,
                std::int64_t step, std::int64_t radius) {
    for (std::int64_t line = 0; line < count; ++line) {
        std::uint8_t* pixels = mask.data() + line * line_step;
        std::int64_t last = -radius - 1;  // the latest set pixel
        Bytes grown(static_cast<std::size_t>(length), 0);
        for (std::int64_t i = 0; i < length + radius; ++i) {
            last = i < length && pixels[i * step] != 0 ? i : last;
            const std::int64_t target = i - radius;  // all that can reach it is known
            if (target >= 0) {
                grown[static_cast<std::size_t>(target)] = last >= target - radius ? 1 : 0;
            }
        }
        for (std::int64_t i = 0; i < length; ++i) {
            pixels[i * step] = grown[static_cast<std::size_t>(i)];
        }
    }
}

Bytes grown(const View& mask, std::int64_t radius) {
    Bytes pixels(mask.pixels, mask.pixels + mask.height * mask.width);
    if (radius > 0) {
        grow_lines(pixels, mask.height, mask.width, mask.width, 1, radius);
        grow_lines(pixels, mask.width, 1, mask.height, mask.width, radius);
    }
    return pixels;
}

/// Set pixels of `mask` in each 8-connected component of `field`, which is used up.
std::vector<std::int64_t> component_areas(const View& mask, Bytes field) {
    std::vector<std::int64_t> areas, open;
    for (std::int64_t start = 0; start < mask.height * mask.width; ++start) {
        if (field[static_cast<std::size_t>(start)] == 0) {
            continue;
        }
        areas.push_back(0);
        open.assign(1, start);
        field[static_cast<std::size_t>(start)] = 0;
        while (!open.empty()) {
            const std::int64_t at = open.back(), y = at / mask.width, x = at % mask.width;
            open.pop_back();
            areas.back() += mask.at(y, x) ? 1 : 0;
            for (std::int64_t v = std::max<std::int64_t>(y - 1, 0);
                 v <= std::min(y + 1, mask.height - 1); ++v) {
                for (std::int64_t u = std::max<std::int64_t>(x - 1, 0);
                     u <= std::min(x + 1, mask.width - 1); ++u) {
                    std::uint8_t& pixel = field[static_cast<std::size_t>(v * mask.width + u)];
                    if (pixel != 0) {
                        pixel = 0;
                        open.push_back(v * mask.width + u);
                    }
                }
            }
        }
    }
    return areas;
}

std::int64_t pieces_of(const View& mask, const TrackThresholds& thresholds) {
    const double gap = thresholds.gap * static_cast<double>(std::min(mask.height, mask.width));
    const auto areas =
        component_areas(mask, grown(mask, static_cast<std::int64_t>(std::floor(gap / 2))));
    std::int64_t total = 0;
    for (const std::int64_t area : areas) {
        total += area;
    }
    return std::ranges::count_if(areas, [&](std::int64_t area) {
        return static_cast<double>(area) >= thresholds.large_piece * static_cast<double>(total);
    });
}

/// Counts frames with a property, and the stretches they form.
struct Stretches {
    std::int64_t count = 0, frames = 0;
    bool in_one = false;

    void add(bool has_it) {
        count += has_it && !in_one ? 1 : 0;
        frames += has_it ? 1 : 0;
        in_one = has_it;
    }
};

}  // namespace

TrackMetrics measure_track(const at::Tensor& track, const TrackThresholds& thresholds) {
    TORCH_CHECK(track.dim() == 3 && track.scalar_type() == at::kByte && track.is_contiguous(),
                "measure_track: uint8 [T, H, W] wanted, not ", track.scalar_type(), " ",
                track.sizes());
    TrackMetrics metrics;
    metrics.num_frames = track.size(0);
    const std::int64_t num_pixels = track.size(1) * track.size(2);
    const double least = thresholds.empty * static_cast<double>(num_pixels);
    Stretches vanished, duplicated;
    View before;
    Shape shape_before;
    double sum_iou = 0.0, sum_change = 0.0;
    std::int64_t num_pairs = 0, first_pieces = 0;
    for (std::int64_t t = 0; t < metrics.num_frames; ++t) {
        const View mask{track.const_data_ptr<std::uint8_t>() + t * num_pixels, track.size(1),
                        track.size(2)};
        const Shape shape = shape_of(mask);
        const bool visible = shape.area > 0 && static_cast<double>(shape.area) >= least;
        if (metrics.num_visible > 0) {
            vanished.add(!visible);
        }
        if (!visible) {
            duplicated.add(false);
            before = {};
            continue;
        }
        const std::int64_t pieces = pieces_of(mask, thresholds);
        if (metrics.num_visible++ == 0) {
            first_pieces = pieces;
        }
        duplicated.add(pieces > first_pieces);
        if (before.pixels != nullptr) {
            sum_iou += moved_iou(before, mask, std::llround(shape.y - shape_before.y),
                                 std::llround(shape.x - shape_before.x));
            sum_change += std::abs(
                std::log(static_cast<double>(shape.area) / static_cast<double>(shape_before.area)));
            ++num_pairs;
        }
        before = mask;
        shape_before = shape;
    }
    if (num_pairs > 0) {
        metrics.consistency = sum_iou / static_cast<double>(num_pairs);
        metrics.area_change = sum_change / static_cast<double>(num_pairs);
    }
    metrics.num_vanishings = vanished.count;
    metrics.num_vanished_frames = vanished.frames;
    metrics.ends_vanished = vanished.in_one;
    metrics.num_duplications = duplicated.count;
    metrics.num_duplicated_frames = duplicated.frames;
    return metrics;
}

std::int64_t count_pieces(const at::Tensor& mask, const TrackThresholds& thresholds) {
    TORCH_CHECK(mask.dim() == 2 && mask.scalar_type() == at::kByte && mask.is_contiguous(),
                "count_pieces: uint8 [H, W] wanted, not ", mask.scalar_type(), " ", mask.sizes());
    return pieces_of({mask.const_data_ptr<std::uint8_t>(), mask.size(0), mask.size(1)}, thresholds);
}

}  // namespace matrix::eval
