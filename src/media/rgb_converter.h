#pragma once

#include "media/video_file.h"

#include <ATen/core/Tensor.h>

namespace matrix::media {

/// Decoded frames to 8-bit RGB: the frame's own matrix and range, swscale with accurate rounding
/// and full chroma interpolation (bicubic where chroma is subsampled).
class RgbConverter {
public:
    explicit RgbConverter(const VideoFile& file) : file_(file) {}

    /// [h, w, 3] uint8 as stored, not turned. RunError for a matrix swscale does not know.
    [[nodiscard]] at::Tensor convert(const AVFrame& frame);

private:
    void prepare(const AVFrame& frame);

    const VideoFile& file_;
    av::Scaler scaler_;
    av::Frame rgb_;  ///< padded lines: swscale's vector code may write past the end of a tight one
    int width_px_ = 0;
    int height_px_ = 0;
    int pixel_format_ = -1;
    int matrix_ = -1;
    bool full_range_ = false;
};

}  // namespace matrix::media
