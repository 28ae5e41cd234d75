#include "matrix/core/error.h"
#include "matrix/media/image.h"

#include <ATen/ATen.h>

#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

namespace matrix::media {

namespace {

// More pixels than any video has: a damaged header must not cost the memory it asks for.
constexpr png_uint_32 kMaxSide_px = 16384;

struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

/// libpng's handles and the reason of a failure. Its error callback must not return; it jumps back
/// to the frame that called setjmp, so between setjmp and the jump no object with a destructor may
/// be created: every buffer lives here.
class PngReader {
public:
    explicit PngReader(const std::filesystem::path& path);
    ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
    PngReader(const PngReader&) = delete;
    PngReader& operator=(const PngReader&) = delete;

    void read_header() { guarded(&PngReader::header_step); }
    /// Rows of 8-bit samples; grey of fewer bits is scaled to 8, palette indices are one byte each.
    void read_pixels() { guarded(&PngReader::pixel_step); }

    png_uint_32 width_px = 0;
    png_uint_32 height_px = 0;
    int bit_depth = 0;
    int color_type = 0;
    std::size_t num_channels = 0;
    std::vector<png_byte> pixels;  ///< [height, width, channels]

private:
    void guarded(void (PngReader::*step)());
    void header_step();
    void pixel_step();
    static void on_error(png_structp png, png_const_charp message);
    static void on_warning(png_structp, png_const_charp) {}

    std::string path_;
    File file_;
    std::string reason_;
    png_structp png_ = nullptr;
    png_infop info_ = nullptr;
    std::vector<png_bytep> rows_;
};

PngReader::PngReader(const std::filesystem::path& path) : path_(path.string()) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) {
        throw RunError(path_ + ": no such PNG file");
    }
    if (!std::filesystem::is_regular_file(status)) {
        throw RunError(path_ + ": not a file, a PNG was expected");
    }
    file_.reset(std::fopen(path.c_str(), "rb"));
    if (!file_) {
        throw RunError(path_ + ": cannot be read");
    }
    png_byte signature[8] = {};
    if (std::fread(signature, 1, sizeof signature, file_.get()) != sizeof signature ||
        png_sig_cmp(signature, 0, sizeof signature) != 0) {
        throw RunError(path_ + ": not a PNG file");
    }
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, &PngReader::on_error,
                                  &PngReader::on_warning);
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr) {
        png_destroy_read_struct(&png_, &info_, nullptr);
        throw RunError(path_ + ": out of memory while opening the PNG");
    }
    png_set_user_limits(png_, kMaxSide_px, kMaxSide_px);
    png_init_io(png_, file_.get());
    png_set_sig_bytes(png_, sizeof signature);
}

void PngReader::on_error(png_structp png, png_const_charp message) {
    static_cast<PngReader*>(png_get_error_ptr(png))->reason_ = message;
    png_longjmp(png, 1);
}

void PngReader::guarded(void (PngReader::*step)()) {
    if (setjmp(png_jmpbuf(png_)) != 0) {
        throw RunError(path_ + ": damaged PNG (" + reason_ + ")");
    }
    (this->*step)();
}

void PngReader::header_step() {
    png_read_info(png_, info_);
    width_px = png_get_image_width(png_, info_);
    height_px = png_get_image_height(png_, info_);
    bit_depth = png_get_bit_depth(png_, info_);
    color_type = png_get_color_type(png_, info_);
}

void PngReader::pixel_step() {
    if (color_type == PNG_COLOR_TYPE_PALETTE) {
        png_set_packing(png_);
    } else if (color_type == PNG_COLOR_TYPE_GRAY && bit_depth < 8) {
        png_set_expand_gray_1_2_4_to_8(png_);
    }
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    num_channels = png_get_channels(png_, info_);
    const std::size_t row_bytes = png_get_rowbytes(png_, info_);
    pixels.resize(row_bytes * height_px);
    rows_.resize(height_px);
    for (std::size_t row = 0; row < height_px; ++row) {
        rows_[row] = pixels.data() + row * row_bytes;
    }
    png_read_image(png_, rows_.data());
    png_read_end(png_, nullptr);
}

}  // namespace

at::Tensor read_mask(const std::filesystem::path& path) {
    PngReader reader(path);
    reader.read_header();
    if (reader.bit_depth == 16) {
        throw RunError(path.string() +
                       ": 16 bits a channel, a mask must have 8 (or be a palette or 1-bit image)");
    }
    reader.read_pixels();
    const bool palette = reader.color_type == PNG_COLOR_TYPE_PALETTE;
    const bool alpha = !palette && (reader.color_type & PNG_COLOR_MASK_ALPHA) != 0;
    const std::size_t num_colors = reader.num_channels - (alpha ? 1 : 0);
    const png_byte threshold = palette ? 0 : 127;

    at::Tensor mask = at::empty({reader.height_px, reader.width_px}, at::kByte);
    auto* out = mask.mutable_data_ptr<std::uint8_t>();
    const png_byte* pixel = reader.pixels.data();
    for (std::int64_t i = 0; i < mask.numel(); ++i, pixel += reader.num_channels) {
        bool set = false;
        for (std::size_t channel = 0; channel < num_colors; ++channel) {
            set = set || pixel[channel] > threshold;
        }
        out[i] = set ? 1 : 0;
    }
    return mask;
}

ImageSize png_size(const std::filesystem::path& path) {
    PngReader reader(path);
    reader.read_header();
    return {static_cast<std::int64_t>(reader.width_px),
            static_cast<std::int64_t>(reader.height_px)};
}

}  // namespace matrix::media
