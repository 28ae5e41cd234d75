#pragma once

#include "media/video_file.h"

#include <cstdint>

namespace matrix::media {

/// Decodes a file's frames one after another, in presentation order, on one thread.
class FrameDecoder {
public:
    /// RunError where FFmpeg has no decoder for the stream.
    explicit FrameDecoder(VideoFile& file);

    /// The next frame, valid until the next call, or null after the last. RunError where the stream
    /// is damaged.
    const AVFrame* next();

private:
    void send();
    void check_frame() const;

    VideoFile& file_;
    av::Codec codec_;
    av::Packet packet_;
    av::Frame frame_;
    std::int64_t num_frames_ = 0;
    bool seen_key_ = false;
};

}  // namespace matrix::media
