#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

// What mask tracks and first frames tell of a generated video, without any model. T frames of H x W
// pixels.

namespace matrix::eval {

/// Shares of the frame or of the mask, so that they hold for every size.
struct TrackThresholds {
    double empty = 1e-4;       ///< a mask below this share of the frame's pixels shows nothing
    double large_piece = 0.2;  ///< a piece counts from this share of the mask's pixels on
    double gap = 0.05;         ///< pieces nearer than this share of the shorter side are one
};

struct TrackMetrics {
    std::int64_t num_frames = 0;
    std::int64_t num_visible = 0;  ///< frames whose mask shows something
    /// Mean over neighbouring visible frames of the IoU of the two masks, the first moved by the
    /// whole pixels between their centroids; pixels that this moves out of the frame, or that come
    /// from outside it, do not count. 1: the shape only moves. None without two such frames.
    std::optional<double> consistency;
    /// Mean over the same pairs of |ln(area of the second / area of the first)|. 0: a steady size.
    std::optional<double> area_change;
    /// Stretches of frames that show nothing, after the first visible one.
    std::int64_t num_vanishings = 0;
    std::int64_t num_vanished_frames = 0;
    bool ends_vanished = false;
    /// Stretches of frames in which the mask has more large, separated pieces than in the first
    /// visible one.
    std::int64_t num_duplications = 0;
    std::int64_t num_duplicated_frames = 0;
};

/// Of [T, H, W] uint8, non-zero is inside.
[[nodiscard]] TrackMetrics measure_track(const at::Tensor& track,
                                         const TrackThresholds& thresholds = {});

/// Large, separated pieces of one mask [H, W] uint8: the 8-connected components of the mask grown
/// by half the gap to every side (a square), counted by the mask's own pixels.
[[nodiscard]] std::int64_t count_pieces(const at::Tensor& mask,
                                        const TrackThresholds& thresholds = {});

struct Fidelity {
    double psnr_db = 0.0;  ///< over RGB; 100 for equal pictures, which have none
    double ssim = 0.0;
};

/// Two pictures [H, W, 3] uint8 of one size, at least 11 pixels each way. PSNR = 10 log10(255^2 /
/// mean squared difference). SSIM (Wang et al. 2004): on luma 0.299 R + 0.587 G + 0.114 B, 11 x 11
/// Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, mean over the windows that lie in
/// the picture.
[[nodiscard]] Fidelity compare_pictures(const at::Tensor& a, const at::Tensor& b);

}  // namespace matrix::eval
