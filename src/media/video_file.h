#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "media/av.h"

struct AVStream;

namespace matrix::media {

/// An opened video file, its one video stream, and how its frames have to be turned. Reads packets
/// of that stream.
class VideoFile {
public:
    /// RunError naming the file: missing, a directory, empty, not a video, without a video stream,
    /// or with a rotation that is not a multiple of 90 degrees.
    explicit VideoFile(const std::filesystem::path& path);

    /// The next packet of the stream in file order, or false at the end. RunError if the file is
    /// cut off.
    bool read(AVPacket* packet);

    [[nodiscard]] const AVStream& stream() const { return *stream_; }
    /// The container's average rate, or 0 where it has none.
    [[nodiscard]] double frames_per_second() const;
    /// Quarter turns counter-clockwise that bring a stored frame upright, 0 to 3.
    [[nodiscard]] std::int64_t quarter_turns() const { return quarter_turns_; }
    /// The same for a display matrix (16.16 fixed point); RunError for mirrors and odd angles.
    [[nodiscard]] std::int64_t turns_of(const std::int32_t* matrix) const;
    [[noreturn]] void fail(const std::string& reason) const;

private:
    void check_length(std::uint64_t bytes) const;
    void open();
    void find_stream();
    void read_rotation();

    std::filesystem::path path_;
    av::Input format_;
    AVStream* stream_ = nullptr;
    std::int64_t num_packets_ = 0;
    std::int64_t quarter_turns_ = 0;
};

}  // namespace matrix::media
