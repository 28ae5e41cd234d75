#include "media/rgb_converter.h"

extern "C" {
#include <libavutil/frame.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <ATen/ATen.h>

#include <cstring>

namespace matrix::media {

namespace {

constexpr int kHdLines = 720;

/// The SWS_CS_ number of a frame's YUV matrix, or -1 where swscale has none.
int yuv_matrix(const AVFrame& frame) {
    switch (frame.colorspace) {
        case AVCOL_SPC_BT709:
        case AVCOL_SPC_FCC:
        case AVCOL_SPC_BT470BG:
        case AVCOL_SPC_SMPTE170M:
        case AVCOL_SPC_SMPTE240M:
        case AVCOL_SPC_BT2020_NCL:
            return frame.colorspace;
        case AVCOL_SPC_RGB:
        case AVCOL_SPC_RESERVED:
        case AVCOL_SPC_UNSPECIFIED:
            return frame.height >= kHdLines ? SWS_CS_ITU709 : SWS_CS_ITU601;
        default:
            return -1;
    }
}

}  // namespace

void RgbConverter::prepare(const AVFrame& frame) {
    const int matrix = yuv_matrix(frame);
    const AVPixFmtDescriptor* descriptor =
        av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
    const bool is_rgb = descriptor != nullptr && (descriptor->flags & AV_PIX_FMT_FLAG_RGB) != 0;
    if (matrix < 0 && !is_rgb) {
        const char* name = av_color_space_name(frame.colorspace);
        file_.fail("its colour matrix \"" + std::string(name == nullptr ? "unknown" : name) +
                   "\" cannot be converted to RGB");
    }
    const bool full_range = frame.color_range == AVCOL_RANGE_JPEG;
    if (scaler_ && frame.width == width_px_ && frame.height == height_px_ &&
        frame.format == pixel_format_ && matrix == matrix_ && full_range == full_range_) {
        return;
    }
    if (width_px_ != 0 && (frame.width != width_px_ || frame.height != height_px_)) {
        file_.fail("changes its frame size from " + std::to_string(width_px_) + "x" +
                   std::to_string(height_px_) + " to " + std::to_string(frame.width) + "x" +
                   std::to_string(frame.height));
    }
    width_px_ = frame.width;
    height_px_ = frame.height;
    pixel_format_ = frame.format;
    matrix_ = matrix;
    full_range_ = full_range;
    rgb_.reset(av_frame_alloc());
    rgb_->format = AV_PIX_FMT_RGB24;
    rgb_->width = width_px_;
    rgb_->height = height_px_;
    scaler_.reset(sws_getContext(width_px_, height_px_, static_cast<AVPixelFormat>(pixel_format_),
                                 width_px_, height_px_, AV_PIX_FMT_RGB24,
                                 SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, nullptr,
                                 nullptr, nullptr));
    if (!scaler_ || av_frame_get_buffer(rgb_.get(), 0) < 0) {
        file_.fail("its pixel format \"" +
                   std::string(descriptor == nullptr ? "unknown" : descriptor->name) +
                   "\" cannot be converted to RGB");
    }
    if (!is_rgb) {
        constexpr int kOne = 1 << 16, kFullRange = 1;
        const int* table = sws_getCoefficients(matrix);
        sws_setColorspaceDetails(scaler_.get(), table, full_range ? 1 : 0, table, kFullRange, 0,
                                 kOne, kOne);
    }
}

at::Tensor RgbConverter::convert(const AVFrame& frame) {
    prepare(frame);
    sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, rgb_->data,
              rgb_->linesize);
    at::Tensor image = at::empty({frame.height, frame.width, 3}, at::kByte);
    auto* out = image.mutable_data_ptr<std::uint8_t>();
    const std::size_t row_bytes = static_cast<std::size_t>(frame.width) * 3;
    for (int row = 0; row < frame.height; ++row) {
        std::memcpy(out + row * row_bytes, rgb_->data[0] + row * rgb_->linesize[0], row_bytes);
    }
    return image;
}

}  // namespace matrix::media
