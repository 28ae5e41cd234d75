#pragma once

#include <filesystem>
#include <string>

#include "media/av.h"

struct AVStream;

namespace matrix::media {

/// A media file of one video stream under a temporary name beside `path`, renamed into place by
/// `finish`; removed if that is never reached.
class OutputFile {
public:
    explicit OutputFile(std::filesystem::path path);
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    /// Makes missing directories and writes the header. `format` and `muxer_flags` as FFmpeg
    /// spells them.
    void open(const std::string& format, const AVCodecContext& encoder,
              const std::string& muxer_flags = "");
    [[nodiscard]] bool is_open() const { return format_ != nullptr; }

    /// Sends a picture to the encoder, or null at the end, and writes what it gives back.
    void encode(AVCodecContext& encoder, const AVFrame* picture);
    void finish();

    /// RunError naming the file.
    [[noreturn]] void fail(const std::string& reason) const;
    /// The same with libav's own words if `code` is an error.
    void check(int code) const;

private:
    struct Close {
        void operator()(AVFormatContext* format) const;
    };
    void write_header(const std::string& muxer_flags);

    std::filesystem::path path_;
    std::filesystem::path temporary_;
    std::unique_ptr<AVFormatContext, Close> format_;
    AVStream* stream_ = nullptr;
    av::Packet packet_;
};

}  // namespace matrix::media
