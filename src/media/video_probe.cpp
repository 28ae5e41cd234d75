#include "matrix/core/error.h"
#include "matrix/media/video.h"
#include "media/video_file.h"

#include <algorithm>
#include <utility>

namespace matrix::media {

namespace {

/// VP8 stores its hidden reference frames as packets of their own; bit 4 of the first byte says
/// "show".
bool is_shown(const AVPacket& packet, AVCodecID codec) {
    return codec != AV_CODEC_ID_VP8 || packet.size == 0 || (packet.data[0] & 0x10) != 0;
}

}  // namespace

VideoInfo probe_video(const std::filesystem::path& path) {
    VideoFile file(path);
    const AVStream& stream = file.stream();
    const av::Packet packet(av_packet_alloc());
    std::vector<std::int64_t> times;
    bool has_times = true;
    while (file.read(packet.get())) {
        // Packets outside the file's edit list are decoded for the sake of others and never shown.
        if ((packet->flags & AV_PKT_FLAG_DISCARD) != 0 ||
            !is_shown(*packet, stream.codecpar->codec_id)) {
            continue;
        }
        const std::int64_t time = packet->pts == AV_NOPTS_VALUE ? packet->dts : packet->pts;
        has_times = has_times && time != AV_NOPTS_VALUE;
        times.push_back(time);
    }
    if (times.empty()) {
        file.fail("holds no frames");
    }

    VideoInfo info;
    info.width_px = stream.codecpar->width;
    info.height_px = stream.codecpar->height;
    if (file.quarter_turns() % 2 != 0) {
        std::swap(info.width_px, info.height_px);
    }
    info.num_frames = static_cast<std::int64_t>(times.size());
    std::sort(times.begin(), times.end());
    const AVRational rate = file.guess_frame_rate();
    const double tick = av_q2d(stream.time_base);
    const double span = has_times ? static_cast<double>(times.back() - times.front()) * tick : 0.0;
    if (rate.num > 0 && rate.den > 0) {
        info.frames_per_second = av_q2d(rate);
    } else if (span > 0.0) {
        info.frames_per_second = static_cast<double>(times.size() - 1) / span;
    }
    if (!has_times && info.frames_per_second <= 0.0 && times.size() > 1) {
        file.fail("has neither timestamps nor a frame rate");
    }
    for (std::size_t i = 0; i < times.size(); ++i) {
        info.timestamps_seconds.push_back(
            has_times ? static_cast<double>(times[i] - times.front()) * tick
                      : (i == 0 ? 0.0 : static_cast<double>(i) / info.frames_per_second));
    }
    return info;
}

}  // namespace matrix::media
