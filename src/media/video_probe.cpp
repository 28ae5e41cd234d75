#include "matrix/media/video.h"
#include "media/frame_decoder.h"
#include "media/video_file.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include <algorithm>
#include <optional>
#include <utility>

namespace matrix::media {

namespace {

/// VP8 stores its hidden reference frames as packets of their own; bit 4 of the first byte says
/// "show".
bool is_shown(const AVPacket& packet, AVCodecID codec) {
    return codec != AV_CODEC_ID_VP8 || packet.size == 0 || (packet.data[0] & 0x10) != 0;
}

/// The presentation time of every frame that is shown, in no order; AV_NOPTS_VALUE where there is
/// none.
using Times = std::vector<std::int64_t>;

/// Nothing where packets alone do not tell which frames will come out: those before the first key
/// frame, or after it in the file but before it on the screen, lean on others that the file may not
/// have; and a container that leaves presentation times out may also pack frames in its own way.
std::optional<Times> times_of_packets(VideoFile& file) {
    Times times;
    const av::Packet packet(av_packet_alloc());
    std::optional<std::int64_t> first_key;
    while (file.read(packet.get())) {
        if (!first_key && (packet->flags & AV_PKT_FLAG_KEY) != 0) {
            first_key = packet->pts;
        }
        // Packets outside the file's edit list are decoded for the sake of others and never shown.
        if ((packet->flags & AV_PKT_FLAG_DISCARD) != 0 ||
            !is_shown(*packet, file.stream().codecpar->codec_id)) {
            continue;
        }
        if (packet->pts == AV_NOPTS_VALUE || !first_key || packet->pts < *first_key) {
            return std::nullopt;
        }
        times.push_back(packet->pts);
    }
    return times;
}

Times times_of_frames(const std::filesystem::path& path) {
    Times times;
    VideoFile file(path);
    FrameDecoder decoder(file);
    while (const AVFrame* frame = decoder.next()) {
        times.push_back(frame->best_effort_timestamp);
    }
    return times;
}

}  // namespace

VideoInfo probe_video(const std::filesystem::path& path) {
    VideoFile file(path);
    std::optional<Times> counted = times_of_packets(file);
    Times times = counted ? std::move(*counted) : times_of_frames(path);
    if (times.empty()) {
        file.fail("holds no frames");
    }
    std::sort(times.begin(), times.end());
    // The missing value is the smallest there is.
    const bool timed = times.front() != AV_NOPTS_VALUE;
    const AVStream& stream = file.stream();
    const double tick_seconds = av_q2d(stream.time_base);

    VideoInfo info;
    info.width_px = stream.codecpar->width;
    info.height_px = stream.codecpar->height;
    if (file.quarter_turns() % 2 != 0) {
        std::swap(info.width_px, info.height_px);
    }
    info.num_frames = static_cast<std::int64_t>(times.size());
    info.frames_per_second = file.frames_per_second();
    if (info.frames_per_second == 0.0 && timed && times.back() > times.front()) {
        info.frames_per_second = static_cast<double>(times.size() - 1) /
                                 (static_cast<double>(times.back() - times.front()) * tick_seconds);
    }
    if (info.frames_per_second == 0.0) {
        file.fail("has neither timestamps nor a frame rate");
    }
    for (std::size_t i = 0; i < times.size(); ++i) {
        info.timestamps_seconds.push_back(timed ? static_cast<double>(times[i] - times.front()) *
                                                      tick_seconds
                                                : static_cast<double>(i) / info.frames_per_second);
    }
    return info;
}

}  // namespace matrix::media
