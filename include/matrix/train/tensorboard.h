#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace matrix::train {

/// CRC-32C (Castagnoli), and TensorFlow's masking of it: rotated right by 15 bits plus 0xa282ead8.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes);
[[nodiscard]] std::uint32_t masked_crc32c(std::string_view bytes);

/// One record of a TFRecord file: length (u64), masked CRC of the length, payload, masked CRC of
/// the payload; little-endian.
[[nodiscard]] std::string tfrecord(std::string_view payload);

/// Scalars and images for TensorBoard: `events.out.tfevents.<time>.<host>.<pid>` with TensorFlow's
/// Event messages (event.proto, version brain.Event:2).
class TensorBoardWriter {
public:
    /// Creates the directory and a file in it. `done` steps were done before: of earlier files of
    /// the directory TensorBoard then forgets every later step (a session-log START). RunError
    /// naming the file if it cannot be made.
    TensorBoardWriter(const std::filesystem::path& directory, std::int64_t done);
    ~TensorBoardWriter();
    TensorBoardWriter(const TensorBoardWriter&) = delete;
    TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

    using Scalars = std::vector<std::pair<std::string, double>>;
    /// All values of one step in one event, on disk when this returns.
    void write(std::int64_t step, const Scalars& scalars);

    /// An RGB picture as a PNG or JPEG file's bytes.
    struct Image {
        std::string tag;
        std::int64_t height_px = 0;
        std::int64_t width_px = 0;
        std::string file;
    };
    void write(std::int64_t step, const Image& image);

private:
    void append(std::string_view event);

    std::filesystem::path path_;
    int descriptor_ = -1;
};

}  // namespace matrix::train
