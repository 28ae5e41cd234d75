#include "media/frame_decoder.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include <string>

namespace matrix::media {

FrameDecoder::FrameDecoder(VideoFile& file)
    : file_(file), packet_(av_packet_alloc()), frame_(av_frame_alloc()) {
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
        const int code = avcodec_receive_frame(codec_.get(), frame_.get());
        if (code == AVERROR_EOF) {
            return nullptr;
        }
        if (code == 0) {
            check_frame();
            ++num_frames_;
            return frame_.get();
        }
        if (code != AVERROR(EAGAIN)) {
            file_.fail("is damaged near frame " + std::to_string(num_frames_) + " (" +
                       av::error_text(code) + ")");
        }
        send();
    }
}

void FrameDecoder::send() {
    bool more = file_.read(packet_.get());
    // What stands before the first key frame leans on frames that the file does not have.
    while (more && !seen_key_ && (packet_->flags & AV_PKT_FLAG_KEY) == 0) {
        more = file_.read(packet_.get());
    }
    seen_key_ = true;
    const int code = avcodec_send_packet(codec_.get(), more ? packet_.get() : nullptr);
    if (code < 0) {
        file_.fail("is damaged near frame " + std::to_string(num_frames_) + " (" +
                   av::error_text(code) + ")");
    }
}

void FrameDecoder::check_frame() const {
    if (frame_->decode_error_flags != 0 || (frame_->flags & AV_FRAME_FLAG_CORRUPT) != 0) {
        file_.fail("frame " + std::to_string(num_frames_) + " is damaged");
    }
    const AVFrameSideData* turned =
        av_frame_get_side_data(frame_.get(), AV_FRAME_DATA_DISPLAYMATRIX);
    if (turned == nullptr || turned->size < 9 * sizeof(std::int32_t)) {
        return;
    }
    // An orientation inside the coded stream, unknown to the container: `probe_video` cannot know
    // of it.
    if (file_.turns_of(reinterpret_cast<const std::int32_t*>(turned->data)) !=
        file_.quarter_turns()) {
        file_.fail("its frames carry a rotation that its container does not");
    }
}

}  // namespace matrix::media
