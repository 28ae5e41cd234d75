#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

namespace matrix::media {

/// What a video file says of itself, after its rotation metadata was applied to height and width.
struct VideoInfo {
    std::int64_t width_px = 0;
    std::int64_t height_px = 0;
    std::int64_t num_frames = 0;     ///< counted, not believed: what a decoder will give
    double frames_per_second = 0.0;  ///< average rate of the container
    std::vector<double>
        timestamps_seconds;  ///< presentation time of each frame, first at 0, ascending
};

/// Reads headers and packets; decodes only where these do not tell the frames (a file that starts
/// between key frames, or one without presentation times). Frames are those that are shown: what an
/// edit list cuts away does not count. RunError naming the file: missing, a directory, empty,
/// truncated, no video stream, no frames.
[[nodiscard]] VideoInfo probe_video(const std::filesystem::path& path);

/// Decodes the frames with the given indices (ascending, in presentation order) to 8-bit RGB, [n,
/// H, W, 3] uint8: the stream's own matrix and range (unspecified: BT.709 from 720 lines up, else
/// BT.601), swscale with accurate rounding and full chroma interpolation, rotation by multiples of
/// 90 degrees applied (others are an error), 10-bit to 8. An HDR transfer function is warned of
/// once per file. RunError if a frame cannot be had.
[[nodiscard]] at::Tensor read_video_frames(const std::filesystem::path& path,
                                           const std::vector<std::int64_t>& indices);

/// H.264 in mp4, yuv420p, BT.601 limited range (tagged), closed and renamed into place by `finish`.
class VideoWriter {
public:
    /// Even sizes. `quality` is x264's constant rate factor: lower is better, 0 to 51.
    VideoWriter(const std::filesystem::path& path, std::int64_t width_px, std::int64_t height_px,
                double frames_per_second, int quality = 18);
    ~VideoWriter();  ///< without `finish` the file is removed
    VideoWriter(const VideoWriter&) = delete;
    VideoWriter& operator=(const VideoWriter&) = delete;
    /// One frame, [H, W, 3] uint8 RGB.
    void write(const at::Tensor& frame);
    void finish();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// All of a clip, [T, H, W, 3] uint8.
void write_video(const std::filesystem::path& path, const at::Tensor& frames,
                 double frames_per_second);

}  // namespace matrix::media
