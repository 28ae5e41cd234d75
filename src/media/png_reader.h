#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

// libpng's own structures: its header stays in the .cpp files.
struct png_struct_def;
struct png_info_def;

namespace matrix::media {

/// A PNG file: libpng's handles and the reason of a failure. Its error callback must not return; it
/// jumps back to the frame that called setjmp, so between setjmp and the jump no object with a
/// destructor may be created: every buffer lives here.
class PngReader {
public:
    explicit PngReader(const std::filesystem::path& path);
    ~PngReader();
    PngReader(const PngReader&) = delete;
    PngReader& operator=(const PngReader&) = delete;

    [[nodiscard]] static bool is_png(const std::filesystem::path& path);

    void read_header() { guarded(&PngReader::header_step); }
    /// Rows of 8-bit samples; grey of fewer bits is scaled to 8, palette indices are one byte each.
    void read_pixels() { guarded(&PngReader::pixel_step); }
    /// Three 8-bit samples a pixel, whatever the file has: 16 bits lose the lower ones, alpha is
    /// left out.
    void read_rgb() { guarded(&PngReader::rgb_step); }

    std::uint32_t width_px = 0;
    std::uint32_t height_px = 0;
    int bit_depth = 0;
    int color_type = 0;
    std::size_t num_channels = 0;
    std::vector<unsigned char> pixels;  ///< [height, width, channels]

private:
    void guarded(void (PngReader::*step)());
    void header_step();
    void pixel_step();
    void rgb_step();
    void read_rows();
    static void on_error(png_struct_def* png, const char* message);
    static void on_warning(png_struct_def*, const char*) {}

    struct CloseFile {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };

    std::string path_;
    std::size_t num_bytes_ = 0;       ///< of the file
    std::size_t unpacked_bytes_ = 0;  ///< of the rows as the file has them, several pixels a byte
    std::unique_ptr<std::FILE, CloseFile> file_;
    std::string reason_;
    png_struct_def* png_ = nullptr;
    png_info_def* info_ = nullptr;
    std::vector<unsigned char*> rows_;
};

}  // namespace matrix::media
