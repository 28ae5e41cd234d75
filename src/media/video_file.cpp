#include "media/video_file.h"

#include "matrix/core/error.h"
#include "media/matroska_size.h"

extern "C" {
#include <libavformat/avformat.h>
#include <libavutil/display.h>
}

#include <cmath>
#include <system_error>

namespace matrix::media {

namespace {

// Containers and elementary streams that hold video. Without the list libav would also play text as
// terminal art, take an image for a video, and follow playlists to other files.
constexpr const char* kFormats =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,ivf,nut,mxf,"
    "yuv4mpegpipe,h264,hevc,m4v,obu,av1,wav,mp3,flac,aac";

}  // namespace

VideoFile::VideoFile(const std::filesystem::path& path) : path_(path) {
    av::silence();
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) {
        fail("no such video file");
    }
    if (std::filesystem::is_directory(status)) {
        fail("is a directory, a video file was expected");
    }
    if (!std::filesystem::is_regular_file(status)) {
        fail("is not a file");
    }
    check_length(std::filesystem::file_size(path, error));
    open();
    find_stream();
    read_rotation();
}

void VideoFile::fail(const std::string& reason) const {
    throw RunError(path_.string() + ": " + reason);
}

void VideoFile::check_length(std::uint64_t bytes) const {
    if (bytes == 0) {
        fail("the file is empty, a video was expected");
    }
    const auto stated_bytes = matroska_size_bytes(path_);
    if (stated_bytes && bytes < *stated_bytes) {
        fail("is cut off: " + std::to_string(bytes) + " of " + std::to_string(*stated_bytes) +
             " bytes");
    }
}

void VideoFile::open() {
    AVDictionary* options = nullptr;
    av_dict_set(&options, "format_whitelist", kFormats, 0);
    av_dict_set(&options, "protocol_whitelist", "file", 0);
    AVFormatContext* raw = nullptr;
    // "file:" keeps libav from reading a protocol into a name with a colon.
    const int code =
        avformat_open_input(&raw, ("file:" + path_.string()).c_str(), nullptr, &options);
    av_dict_free(&options);
    if (code == AVERROR(EACCES)) {
        fail("cannot be read: " + av::error_text(code));
    }
    if (code < 0) {
        fail("not a video that can be read, or cut off (" + av::error_text(code) + ")");
    }
    format_.reset(raw);
    const int found = avformat_find_stream_info(raw, nullptr);
    if (found < 0) {
        fail("not a video that can be read, or cut off (" + av::error_text(found) + ")");
    }
}

void VideoFile::find_stream() {
    const int index = av_find_best_stream(format_.get(), AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
    if (index < 0) {
        fail("holds no video stream");
    }
    stream_ = format_->streams[index];
    // The cover picture of a piece of music is stored as a video stream of one frame.
    if ((stream_->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0) {
        fail("holds no video stream, only sound and a cover picture");
    }
    if (stream_->codecpar->width <= 0 || stream_->codecpar->height <= 0) {
        fail("its video stream has no frame size: damaged, cut off or without frames");
    }
    for (unsigned i = 0; i < format_->nb_streams; ++i) {
        if (static_cast<int>(i) != index) {
            format_->streams[i]->discard = AVDISCARD_ALL;
        }
    }
}

void VideoFile::read_rotation() {
    std::size_t bytes = 0;
    const std::uint8_t* data = av_stream_get_side_data(stream_, AV_PKT_DATA_DISPLAYMATRIX, &bytes);
    if (data == nullptr || bytes < 9 * sizeof(std::int32_t)) {
        return;
    }
    quarter_turns_ = turns_of(reinterpret_cast<const std::int32_t*>(data));
}

std::int64_t VideoFile::turns_of(const std::int32_t* matrix) const {
    // Row vectors: (x, y) goes to (a x + c y, b x + d y), y downwards. The scale is not applied, as
    // frames are taken as stored.
    const double a = matrix[0], b = matrix[1], c = matrix[3], d = matrix[4];
    if (a * d - b * c < 0.0) {
        fail(
            "its metadata ask for a mirrored picture: only rotations by multiples of 90 degrees "
            "are read");
    }
    const double angle = av_display_rotation_get(matrix);  // counter-clockwise, degrees
    if (!std::isfinite(angle)) {
        fail("its rotation metadata are damaged");
    }
    const double turns = std::round(angle / 90.0);
    if (std::abs(angle - 90.0 * turns) > 0.5) {
        fail("its metadata ask for a rotation by " + std::to_string(std::lround(-angle)) +
             " degrees: only multiples of 90 are read");
    }
    return (static_cast<std::int64_t>(turns) % 4 + 4) % 4;
}

double VideoFile::frames_per_second() const {
    for (const AVRational rate : {stream_->avg_frame_rate, stream_->r_frame_rate}) {
        if (rate.num > 0 && rate.den > 0) {
            return av_q2d(rate);
        }
    }
    return 0.0;
}

bool VideoFile::read(AVPacket* packet) {
    for (;;) {
        av_packet_unref(packet);
        const int code = av_read_frame(format_.get(), packet);
        if (code == AVERROR_EOF) {
            // A header that lists more samples than the file holds; where the index is only a table
            // of key frames it is the shorter one.
            if (num_packets_ < avformat_index_get_entries_count(stream_)) {
                fail("is cut off after " + std::to_string(num_packets_) + " of " +
                     std::to_string(avformat_index_get_entries_count(stream_)) + " frames");
            }
            return false;
        }
        if (code < 0) {
            fail("is damaged or cut off after " + std::to_string(num_packets_) + " frames (" +
                 av::error_text(code) + ")");
        }
        if (packet->stream_index == stream_->index) {
            if ((packet->flags & AV_PKT_FLAG_CORRUPT) != 0) {
                fail("is damaged or cut off at frame " + std::to_string(num_packets_));
            }
            ++num_packets_;
            return true;
        }
    }
}

}  // namespace matrix::media
