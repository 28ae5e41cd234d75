#pragma once

#include <memory>
#include <string>

struct AVCodecContext;
struct AVFormatContext;
struct AVFrame;
struct AVPacket;
struct SwsContext;

// Owners of libav objects; FFmpeg's own headers stay in the .cpp files.

namespace matrix::media::av {

struct Free {
    void operator()(AVFrame* frame) const;
    void operator()(AVPacket* packet) const;
    void operator()(AVCodecContext* context) const;
    void operator()(SwsContext* context) const;
    /// An opened input.
    void operator()(AVFormatContext* format) const;
};

using Frame = std::unique_ptr<AVFrame, Free>;
using Packet = std::unique_ptr<AVPacket, Free>;
using Codec = std::unique_ptr<AVCodecContext, Free>;
using Scaler = std::unique_ptr<SwsContext, Free>;
using Input = std::unique_ptr<AVFormatContext, Free>;

/// libav's own words for an error code.
[[nodiscard]] std::string error_text(int code);

/// Stops libav, libswscale and the encoders from writing to stderr: their complaints come back as
/// RunError instead.
void silence();

}  // namespace matrix::media::av
