#include "matrix/core/error.h"
#include "matrix/media/video.h"
#include "media/av.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
}

#include <ATen/ATen.h>

#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <string>
#include <system_error>

namespace matrix::media {

namespace {

struct CloseOutput {
    void operator()(AVFormatContext* format) const {
        avio_closep(&format->pb);
        avformat_free_context(format);
    }
};
using Output = std::unique_ptr<AVFormatContext, CloseOutput>;

}  // namespace

struct VideoWriter::Impl {
    std::filesystem::path path;
    std::filesystem::path temporary;
    std::int64_t width_px = 0;
    std::int64_t height_px = 0;
    std::int64_t num_frames = 0;
    Output format;
    AVStream* stream = nullptr;
    av::Codec encoder;
    av::Scaler scaler;
    av::Frame frame;
    av::Packet packet;

    [[noreturn]] void fail(const std::string& reason) const {
        throw RunError(path.string() + ": cannot write the video: " + reason);
    }
    void check(int code) const {
        if (code < 0) {
            fail(av::error_text(code));
        }
    }
    void open_encoder(double frames_per_second, int quality);
    void open_scaler();
    void open_file();
    void encode(const AVFrame* picture);
};

void VideoWriter::Impl::open_encoder(double frames_per_second, int quality) {
    const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
    if (codec == nullptr) {
        fail("this FFmpeg has no H.264 encoder (libx264)");
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
    check(av_opt_set(encoder->priv_data, "crf", std::to_string(quality).c_str(), 0));
    // The macroblock tree of x264 164 lets what was in memory before decide: equal frames,
    // different files.
    check(av_opt_set(encoder->priv_data, "mbtree", "0", 0));
    check(avcodec_open2(encoder.get(), codec, nullptr));
}

void VideoWriter::Impl::open_scaler() {
    frame.reset(av_frame_alloc());
    frame->format = encoder->pix_fmt;
    frame->width = encoder->width;
    frame->height = encoder->height;
    check(av_frame_get_buffer(frame.get(), 0));
    scaler.reset(sws_getContext(encoder->width, encoder->height, AV_PIX_FMT_RGB24, encoder->width,
                                encoder->height, encoder->pix_fmt,
                                SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, nullptr,
                                nullptr, nullptr));
    const int* matrix = sws_getCoefficients(SWS_CS_SMPTE170M);
    constexpr int kFullRange = 1, kLimitedRange = 0, kOne = 1 << 16;
    if (!scaler || sws_setColorspaceDetails(scaler.get(), matrix, kFullRange, matrix, kLimitedRange,
                                            0, kOne, kOne) < 0) {
        fail("no conversion from RGB to YUV");
    }
}

void VideoWriter::Impl::open_file() {
    std::error_code error;
    if (path.has_parent_path()) {
        std::filesystem::create_directories(path.parent_path(), error);
        if (error) {
            fail(error.message());
        }
    }
    temporary = path;
    temporary += ".tmp-" + std::to_string(::getpid());
    AVFormatContext* raw = nullptr;
    check(avformat_alloc_output_context2(&raw, nullptr, "mp4", nullptr));
    format.reset(raw);
    format->flags |= AVFMT_FLAG_BITEXACT;
    stream = avformat_new_stream(raw, nullptr);
    stream->time_base = encoder->time_base;
    stream->avg_frame_rate = encoder->framerate;
    check(avcodec_parameters_from_context(stream->codecpar, encoder.get()));
    // "file:" keeps libav from reading a protocol into a name with a colon.
    const std::string url = "file:" + temporary.string();
    check(avio_open(&raw->pb, url.c_str(), AVIO_FLAG_WRITE));
    AVDictionary* options = nullptr;
    av_dict_set(&options, "movflags", "+faststart", 0);
    // faststart reads the file again under this name when the trailer is written.
    raw->url = av_strdup(url.c_str());
    const int code = avformat_write_header(raw, &options);
    av_dict_free(&options);
    check(code);
}

void VideoWriter::Impl::encode(const AVFrame* picture) {
    check(avcodec_send_frame(encoder.get(), picture));
    for (;;) {
        const int code = avcodec_receive_packet(encoder.get(), packet.get());
        if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) {
            return;
        }
        check(code);
        packet->duration = 1;
        av_packet_rescale_ts(packet.get(), encoder->time_base, stream->time_base);
        packet->stream_index = stream->index;
        check(av_interleaved_write_frame(format.get(), packet.get()));
    }
}

VideoWriter::VideoWriter(const std::filesystem::path& path, std::int64_t width_px,
                         std::int64_t height_px, double frames_per_second, int quality)
    : impl_(std::make_unique<Impl>()) {
    TORCH_CHECK(width_px > 0 && height_px > 0 && width_px % 2 == 0 && height_px % 2 == 0,
                "VideoWriter: even sizes wanted, not ", width_px, " x ", height_px);
    TORCH_CHECK(std::isfinite(frames_per_second) && frames_per_second > 0.0,
                "VideoWriter: a positive frame rate wanted, not ", frames_per_second);
    TORCH_CHECK(quality >= 0 && quality <= 51, "VideoWriter: quality 0 to 51, not ", quality);
    av::silence();
    impl_->path = path;
    impl_->width_px = width_px;
    impl_->height_px = height_px;
    impl_->packet.reset(av_packet_alloc());
    impl_->open_encoder(frames_per_second, quality);
    impl_->open_scaler();
    try {
        impl_->open_file();
    } catch (...) {
        std::error_code ignored;
        std::filesystem::remove(impl_->temporary, ignored);
        throw;
    }
}

VideoWriter::~VideoWriter() {
    if (impl_->format) {
        impl_->format.reset();
        std::error_code ignored;
        std::filesystem::remove(impl_->temporary, ignored);
    }
}

void VideoWriter::write(const at::Tensor& frame) {
    TORCH_CHECK(impl_->format, "VideoWriter: write after finish");
    TORCH_CHECK(frame.scalar_type() == at::kByte && frame.dim() == 3 &&
                    frame.size(0) == impl_->height_px && frame.size(1) == impl_->width_px &&
                    frame.size(2) == 3,
                "VideoWriter: uint8 [", impl_->height_px, ", ", impl_->width_px,
                ", 3] wanted, not ", frame.scalar_type(), " ", frame.sizes());
    const at::Tensor pixels = frame.cpu().contiguous();
    impl_->check(av_frame_make_writable(impl_->frame.get()));
    const std::uint8_t* planes[] = {pixels.const_data_ptr<std::uint8_t>()};
    const int strides[] = {static_cast<int>(impl_->width_px * 3)};
    sws_scale(impl_->scaler.get(), planes, strides, 0, static_cast<int>(impl_->height_px),
              impl_->frame->data, impl_->frame->linesize);
    impl_->frame->pts = impl_->num_frames++;
    impl_->encode(impl_->frame.get());
}

void VideoWriter::finish() {
    TORCH_CHECK(impl_->format, "VideoWriter: finish twice");
    TORCH_CHECK(impl_->num_frames > 0, "VideoWriter: finish without a frame");
    impl_->encode(nullptr);
    impl_->check(av_write_trailer(impl_->format.get()));
    impl_->check(avio_closep(&impl_->format->pb));

    const int descriptor = ::open(impl_->temporary.c_str(), O_RDONLY | O_CLOEXEC);
    const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
    if (descriptor >= 0) {
        ::close(descriptor);
    }
    std::error_code error;
    if (!synced) {
        error = std::make_error_code(std::errc::io_error);
    } else {
        std::filesystem::rename(impl_->temporary, impl_->path, error);
    }
    if (error) {
        impl_->fail(error.message());
    }
    impl_->format.reset();
}

}  // namespace matrix::media
