#include "matrix/core/error.h"
#include "matrix/log/log.h"
#include "matrix/media/video.h"
#include "media/rgb_converter.h"
#include "media/video_file.h"

extern "C" {
#include <libavutil/pixdesc.h>
}

#include <ATen/ATen.h>

#include <algorithm>
#include <mutex>
#include <set>

namespace matrix::media {

namespace {

/// Decodes a file's frames one after another, in presentation order.
class FrameDecoder {
public:
    explicit FrameDecoder(VideoFile& file);

    /// The next frame, or null after the last. RunError where the stream is damaged.
    const AVFrame* next();

private:
    VideoFile& file_;
    av::Codec codec_;
    av::Packet packet_{av_packet_alloc()};
    av::Frame frame_{av_frame_alloc()};
    std::int64_t num_frames_ = 0;
    bool draining_ = false;
};

FrameDecoder::FrameDecoder(VideoFile& file) : file_(file) {
    const AVCodecParameters* parameters = file.stream().codecpar;
    const AVCodec* codec = avcodec_find_decoder(parameters->codec_id);
    if (codec == nullptr) {
        file.fail("this FFmpeg has no decoder for \"" +
                  std::string(avcodec_get_name(parameters->codec_id)) + "\"");
    }
    codec_.reset(avcodec_alloc_context3(codec));
    int code = avcodec_parameters_to_context(codec_.get(), parameters);
    codec_->pkt_timebase = file.stream().time_base;
    codec_->thread_count = 1;
    if (code >= 0) {
        code = avcodec_open2(codec_.get(), codec, nullptr);
    }
    if (code < 0) {
        file.fail("its decoder cannot be opened: " + av::error_text(code));
    }
}

const AVFrame* FrameDecoder::next() {
    for (;;) {
        av_frame_unref(frame_.get());
        const int received = avcodec_receive_frame(codec_.get(), frame_.get());
        if (received == AVERROR_EOF) {
            return nullptr;
        }
        if (received == 0) {
            if (frame_->decode_error_flags != 0 || (frame_->flags & AV_FRAME_FLAG_CORRUPT) != 0) {
                file_.fail("frame " + std::to_string(num_frames_) + " is damaged");
            }
            ++num_frames_;
            return frame_.get();
        }
        int sent = received;
        if (received == AVERROR(EAGAIN) && !draining_) {
            draining_ = !file_.read(packet_.get());
            sent = avcodec_send_packet(codec_.get(), draining_ ? nullptr : packet_.get());
        }
        if (sent < 0) {
            file_.fail("is damaged near frame " + std::to_string(num_frames_) + " (" +
                       av::error_text(sent) + ")");
        }
    }
}

void warn_of_hdr(const std::filesystem::path& path, const AVFrame& frame) {
    if (frame.color_trc != AVCOL_TRC_SMPTE2084 && frame.color_trc != AVCOL_TRC_ARIB_STD_B67) {
        return;
    }
    static std::mutex mutex;
    static std::set<std::filesystem::path> warned;
    const std::lock_guard lock(mutex);
    if (warned.insert(path).second) {
        log::warning(path.string() + ": HDR video (transfer function " +
                     av_color_transfer_name(frame.color_trc) +
                     ") is read without tone mapping: its colours will look flat");
    }
}

}  // namespace

at::Tensor read_video_frames(const std::filesystem::path& path,
                             const std::vector<std::int64_t>& indices) {
    TORCH_CHECK(!indices.empty() && indices.front() >= 0 &&
                    std::adjacent_find(indices.begin(), indices.end(),
                                       [](auto a, auto b) { return b < a; }) == indices.end(),
                "read_video_frames: ascending indices from 0 wanted");
    VideoFile file(path);
    FrameDecoder decoder(file);
    RgbConverter converter(file);
    at::Tensor frames;  // [n, H, W, 3]
    std::int64_t decoded = 0;
    for (std::size_t i = 0; i < indices.size();) {
        const AVFrame* frame = decoder.next();
        if (frame == nullptr) {
            file.fail("frame " + std::to_string(indices[i]) + " was asked for, the video has " +
                      std::to_string(decoded) + " frames");
        }
        if (decoded++ != indices[i]) {
            continue;
        }
        warn_of_hdr(path, *frame);
        const at::Tensor image = at::rot90(converter.convert(*frame), file.quarter_turns(), {0, 1});
        if (!frames.defined()) {
            frames = at::empty(
                {static_cast<std::int64_t>(indices.size()), image.size(0), image.size(1), 3},
                at::kByte);
        }
        // An index may be asked for more than once: at a wanted rate above the video's, say.
        for (const std::int64_t index = indices[i]; i < indices.size() && indices[i] == index;
             ++i) {
            frames[static_cast<std::int64_t>(i)].copy_(image);
        }
    }
    return frames;
}

}  // namespace matrix::media
