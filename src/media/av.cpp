#include "media/av.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
}

#include <array>

namespace matrix::media::av {

void Free::operator()(AVFrame* frame) const {
    av_frame_free(&frame);
}
void Free::operator()(AVPacket* packet) const {
    av_packet_free(&packet);
}
void Free::operator()(AVCodecContext* context) const {
    avcodec_free_context(&context);
}
void Free::operator()(SwsContext* context) const {
    sws_freeContext(context);
}
void Free::operator()(AVFormatContext* format) const {
    avformat_close_input(&format);
}

std::string error_text(int code) {
    std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
    av_strerror(code, text.data(), text.size());
    return text.data();
}

void silence() {
    av_log_set_level(AV_LOG_QUIET);
}

}  // namespace matrix::media::av
