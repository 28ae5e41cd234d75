#include <ATen/ATen.h>

#include <cmath>

#include "matrix/models/cogvideox.h"

// Letters: F frames of tokens, gh x gw token grid, n channels of one axis.

namespace matrix::models {
namespace {

constexpr double kTheta = 10000.0;

/// Angles of one axis, [positions, n] float32, each frequency twice in a row.
at::Tensor axis_angles(const at::Tensor& positions, std::int64_t n) {
    const at::Tensor exponents =
        at::arange(0, n, 2, at::kFloat).narrow(0, 0, n / 2) / static_cast<double>(n);
    const at::Tensor frequencies = at::pow(at::Scalar(kTheta), exponents).reciprocal();  // [n / 2]
    return at::outer(positions, frequencies).repeat_interleave(2, 1);
}

/// [F, gh, gw, head_dim] from the three axes' tables.
at::Tensor combine(const at::Tensor& t, const at::Tensor& h, const at::Tensor& w) {
    const std::int64_t frames = t.size(0), gh = h.size(0), gw = w.size(0);
    return at::cat({t.view({frames, 1, 1, -1}).expand({frames, gh, gw, -1}),
                    h.view({1, gh, 1, -1}).expand({frames, gh, gw, -1}),
                    w.view({1, 1, gw, -1}).expand({frames, gh, gw, -1})},
                   -1)
        .reshape({frames * gh * gw, -1});
}

/// The region of the training grid that a grid of another aspect ratio is stretched over: top,
/// left, bottom, right.
std::array<std::int64_t, 4> crop_region(std::int64_t gh, std::int64_t gw, std::int64_t base_h,
                                        std::int64_t base_w) {
    const double ratio = static_cast<double>(gh) / static_cast<double>(gw);
    std::int64_t height = 0, width = 0;
    // nearbyint rounds half to even, as the reference's `round`.
    if (ratio > static_cast<double>(base_h) / static_cast<double>(base_w)) {
        height = base_h;
        width = std::llrint(static_cast<double>(base_h) / static_cast<double>(gh) *
                            static_cast<double>(gw));
    } else {
        width = base_w;
        height = std::llrint(static_cast<double>(base_w) / static_cast<double>(gw) *
                             static_cast<double>(gh));
    }
    const std::int64_t top = std::llrint(static_cast<double>(base_h - height) / 2.0);
    const std::int64_t left = std::llrint(static_cast<double>(base_w - width) / 2.0);
    return {top, left, top + height, left + width};
}

/// linspace(start, stop (g - 1) / g, g): as coded, the start is not taken out of the stop before
/// scaling.
at::Tensor grid_positions(std::int64_t start, std::int64_t stop, std::int64_t count) {
    const double end = static_cast<double>(stop * (count - 1)) / static_cast<double>(count);
    return at::linspace(static_cast<double>(start), end, count, at::kFloat);
}

/// [positions, n] float64: sin, then cos, of one axis of the sin-cos table.
at::Tensor sincos_axis(const at::Tensor& positions, std::int64_t n) {
    const at::Tensor exponents = at::arange(n / 2, at::kDouble) / (static_cast<double>(n) / 2.0);
    const at::Tensor frequencies = at::pow(at::Scalar(kTheta), exponents).reciprocal();
    const at::Tensor angles = at::outer(positions.to(at::kDouble), frequencies);
    return at::cat({angles.sin(), angles.cos()}, 1);
}

}  // namespace

RotaryTable rotary_table(const CogVideoXConfig& config, std::int64_t frames, std::int64_t height,
                         std::int64_t width) {
    const std::int64_t gh = height / config.patch_size, gw = width / config.patch_size;
    const std::int64_t base_h = config.sample_height / config.patch_size;
    const std::int64_t base_w = config.sample_width / config.patch_size;
    const std::int64_t head_dim = config.attention_head_dim;
    const std::int64_t dim_t = head_dim / 4, dim_hw = head_dim / 8 * 3;

    RotaryTable table;
    at::Tensor t, h, w;
    if (config.patch_size_t) {
        // "Slice" mode: plain positions.
        t = at::arange((frames + *config.patch_size_t - 1) / *config.patch_size_t, at::kFloat);
        h = at::arange(gh, at::kFloat);
        w = at::arange(gw, at::kFloat);
    } else {
        table.crop = crop_region(gh, gw, base_h, base_w);
        t = grid_positions(0, frames, frames);
        h = grid_positions((*table.crop)[0], (*table.crop)[2], gh);
        w = grid_positions((*table.crop)[1], (*table.crop)[3], gw);
    }
    const at::Tensor angles_t = axis_angles(t, dim_t);
    const at::Tensor angles_h = axis_angles(h, dim_hw);
    const at::Tensor angles_w = axis_angles(w, dim_hw);
    table.cos = combine(angles_t.cos(), angles_h.cos(), angles_w.cos());
    table.sin = combine(angles_t.sin(), angles_h.sin(), angles_w.sin());
    return table;
}

at::Tensor sincos_position_table(const CogVideoXConfig& config, std::int64_t frames,
                                 std::int64_t height, std::int64_t width) {
    const std::int64_t gh = height / config.patch_size, gw = width / config.patch_size;
    const std::int64_t dim = config.width(), dim_t = dim / 4, dim_s = dim / 4 * 3 / 2;
    const at::Tensor t =
        sincos_axis(at::arange(frames, at::kFloat) / config.temporal_interpolation_scale, dim_t);
    const at::Tensor y =
        sincos_axis(at::arange(gh, at::kFloat) / config.spatial_interpolation_scale, dim_s);
    const at::Tensor x =
        sincos_axis(at::arange(gw, at::kFloat) / config.spatial_interpolation_scale, dim_s);
    const at::Tensor video = at::cat({t.view({frames, 1, 1, dim_t}).expand({frames, gh, gw, dim_t}),
                                      x.view({1, 1, gw, dim_s}).expand({frames, gh, gw, dim_s}),
                                      y.view({1, gh, 1, dim_s}).expand({frames, gh, gw, dim_s})},
                                     -1)
                                 .reshape({frames * gh * gw, dim});
    return at::cat({at::zeros({config.max_text_seq_length, dim}, at::kDouble), video}, 0);
}

}  // namespace matrix::models
