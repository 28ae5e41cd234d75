#include "matrix/media/video.h"
#include "media/av.h"
#include "media/output_file.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
}

#include <ATen/ATen.h>

#include <cmath>
#include <string>

namespace matrix::media {

struct VideoWriter::Impl {
    explicit Impl(const std::filesystem::path& path) : file(path) {}

    OutputFile file;
    std::int64_t width_px = 0;
    std::int64_t height_px = 0;
    std::int64_t num_frames = 0;
    av::Codec encoder;
    av::Scaler scaler;
    av::Frame frame;

    void open_encoder(double frames_per_second, int quality);
    void open_scaler();
};

void VideoWriter::Impl::open_encoder(double frames_per_second, int quality) {
    const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
    if (codec == nullptr) {
        file.fail("this FFmpeg has no H.264 encoder (libx264)");
    }
    encoder.reset(avcodec_alloc_context3(codec));
    encoder->width = static_cast<int>(width_px);
    encoder->height = static_cast<int>(height_px);
    encoder->pix_fmt = AV_PIX_FMT_YUV420P;
    encoder->color_range = AVCOL_RANGE_MPEG;
    encoder->colorspace = AVCOL_SPC_SMPTE170M;
    encoder->color_primaries = AVCOL_PRI_SMPTE170M;
    encoder->color_trc = AVCOL_TRC_SMPTE170M;
    // The bound lets 30000/1001 and its kind come out exactly.
    encoder->framerate = av_d2q(frames_per_second, 120000);
    encoder->time_base = av_inv_q(encoder->framerate);
    // The number of threads changes x264's decisions: one, so that equal frames give equal files
    // everywhere.
    encoder->thread_count = 1;
    encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;
    file.check(av_opt_set(encoder->priv_data, "crf", std::to_string(quality).c_str(), 0));
    // The macroblock tree of x264 164 lets what was in memory before decide: equal frames,
    // different files.
    file.check(av_opt_set(encoder->priv_data, "mbtree", "0", 0));
    file.check(avcodec_open2(encoder.get(), codec, nullptr));
}

void VideoWriter::Impl::open_scaler() {
    frame.reset(av_frame_alloc());
    frame->format = encoder->pix_fmt;
    frame->width = encoder->width;
    frame->height = encoder->height;
    file.check(av_frame_get_buffer(frame.get(), 0));
    scaler.reset(sws_getContext(encoder->width, encoder->height, AV_PIX_FMT_RGB24, encoder->width,
                                encoder->height, encoder->pix_fmt,
                                SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, nullptr,
                                nullptr, nullptr));
    const int* matrix = sws_getCoefficients(SWS_CS_SMPTE170M);
    constexpr int kFullRange = 1, kLimitedRange = 0, kOne = 1 << 16;
    if (!scaler || sws_setColorspaceDetails(scaler.get(), matrix, kFullRange, matrix, kLimitedRange,
                                            0, kOne, kOne) < 0) {
        file.fail("no conversion from RGB to YUV");
    }
}

VideoWriter::VideoWriter(const std::filesystem::path& path, std::int64_t width_px,
                         std::int64_t height_px, double frames_per_second, int quality)
    : impl_(std::make_unique<Impl>(path)) {
    TORCH_CHECK(width_px > 0 && height_px > 0 && width_px % 2 == 0 && height_px % 2 == 0,
                "VideoWriter: even sizes wanted, not ", width_px, " x ", height_px);
    TORCH_CHECK(std::isfinite(frames_per_second) && frames_per_second > 0.0,
                "VideoWriter: a positive frame rate wanted, not ", frames_per_second);
    TORCH_CHECK(quality >= 0 && quality <= 51, "VideoWriter: quality 0 to 51, not ", quality);
    av::silence();
    impl_->width_px = width_px;
    impl_->height_px = height_px;
    impl_->open_encoder(frames_per_second, quality);
    impl_->open_scaler();
    impl_->file.open("mp4", *impl_->encoder, "+faststart");
}

VideoWriter::~VideoWriter() = default;

void VideoWriter::write(const at::Tensor& frame) {
    TORCH_CHECK(impl_->file.is_open(), "VideoWriter: write after finish");
    TORCH_CHECK(frame.scalar_type() == at::kByte && frame.dim() == 3 &&
                    frame.size(0) == impl_->height_px && frame.size(1) == impl_->width_px &&
                    frame.size(2) == 3,
                "VideoWriter: uint8 [", impl_->height_px, ", ", impl_->width_px,
                ", 3] wanted, not ", frame.scalar_type(), " ", frame.sizes());
    const at::Tensor pixels = frame.cpu().contiguous();
    impl_->file.check(av_frame_make_writable(impl_->frame.get()));
    const std::uint8_t* planes[] = {pixels.const_data_ptr<std::uint8_t>()};
    const int strides[] = {static_cast<int>(impl_->width_px * 3)};
    sws_scale(impl_->scaler.get(), planes, strides, 0, static_cast<int>(impl_->height_px),
              impl_->frame->data, impl_->frame->linesize);
    impl_->frame->pts = impl_->num_frames++;
    impl_->file.encode(*impl_->encoder, impl_->frame.get());
}

void write_video(const std::filesystem::path& path, const at::Tensor& frames,
                 double frames_per_second) {
    VideoWriter writer(path, frames.size(2), frames.size(1), frames_per_second);
    for (const at::Tensor& frame : frames.unbind()) {
        writer.write(frame);
    }
    writer.finish();
}

void VideoWriter::finish() {
    TORCH_CHECK(impl_->file.is_open(), "VideoWriter: finish twice");
    TORCH_CHECK(impl_->num_frames > 0, "VideoWriter: finish without a frame");
    impl_->file.encode(*impl_->encoder, nullptr);
    impl_->file.finish();
}

}  // namespace matrix::media
