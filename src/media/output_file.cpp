#include "media/output_file.h"

#include "matrix/core/error.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include <fcntl.h>
#include <unistd.h>

#include <system_error>
#include <utility>

namespace matrix::media {

void OutputFile::Close::operator()(AVFormatContext* format) const {
    avio_closep(&format->pb);
    avformat_free_context(format);
}

OutputFile::OutputFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_), packet_(av_packet_alloc()) {
    temporary_ += ".tmp-" + std::to_string(::getpid());
}

OutputFile::~OutputFile() {
    if (format_) {
        format_.reset();
        std::error_code ignored;
        std::filesystem::remove(temporary_, ignored);
    }
}

void OutputFile::fail(const std::string& reason) const {
    throw RunError(path_.string() + ": cannot write the video: " + reason);
}

void OutputFile::check(int code) const {
    if (code < 0) {
        fail(av::error_text(code));
    }
}

void OutputFile::open(const std::string& format, const AVCodecContext& encoder,
                      const std::string& muxer_flags) {
    std::error_code error;
    if (path_.has_parent_path()) {
        std::filesystem::create_directories(path_.parent_path(), error);
        if (error) {
            fail(error.message());
        }
    }
    AVFormatContext* raw = nullptr;
    check(avformat_alloc_output_context2(&raw, nullptr, format.c_str(), nullptr));
    format_.reset(raw);
    format_->flags |= AVFMT_FLAG_BITEXACT;
    stream_ = avformat_new_stream(raw, nullptr);
    stream_->time_base = encoder.time_base;
    stream_->avg_frame_rate = encoder.framerate;
    check(avcodec_parameters_from_context(stream_->codecpar, &encoder));
    write_header(muxer_flags);
}

void OutputFile::write_header(const std::string& muxer_flags) {
    // "file:" keeps libav from reading a protocol into a name with a colon.
    const std::string url = "file:" + temporary_.string();
    check(avio_open(&format_->pb, url.c_str(), AVIO_FLAG_WRITE));
    AVDictionary* options = nullptr;
    if (!muxer_flags.empty()) {
        av_dict_set(&options, "movflags", muxer_flags.c_str(), 0);
    }
    // faststart reads the file again under this name when the trailer is written.
    format_->url = av_strdup(url.c_str());
    const int code = avformat_write_header(format_.get(), &options);
    av_dict_free(&options);
    check(code);
}

void OutputFile::encode(AVCodecContext& encoder, const AVFrame* picture) {
    check(avcodec_send_frame(&encoder, picture));
    for (;;) {
        const int code = avcodec_receive_packet(&encoder, packet_.get());
        if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) {
            return;
        }
        check(code);
        if (packet_->duration == 0) {
            packet_->duration = 1;
        }
        av_packet_rescale_ts(packet_.get(), encoder.time_base, stream_->time_base);
        packet_->stream_index = stream_->index;
        check(av_interleaved_write_frame(format_.get(), packet_.get()));
    }
}

void OutputFile::finish() {
    check(av_write_trailer(format_.get()));
    check(avio_closep(&format_->pb));
    const int descriptor = ::open(temporary_.c_str(), O_RDONLY | O_CLOEXEC);
    const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
    if (descriptor >= 0) {
        ::close(descriptor);
    }
    std::error_code error;
    if (!synced) {
        error = std::make_error_code(std::errc::io_error);
    } else {
        std::filesystem::rename(temporary_, path_, error);
    }
    if (error) {
        fail(error.message());
    }
    format_.reset();
}

}  // namespace matrix::media
