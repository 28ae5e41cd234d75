#include "media/png_reader.h"

#include <png.h>

#include <csetjmp>
#include <system_error>

#include "matrix/core/error.h"

namespace matrix::media {
namespace {

// More pixels than any video has: a damaged header must not cost the memory it asks for.
constexpr png_uint_32 kMaxSide_px = 16384;

// What deflate can make of a byte at most, rounded up: a header that asks for more lies.
constexpr std::size_t kMostInflation = 1100;

}  // namespace

PngReader::PngReader(const std::filesystem::path& path) : path_(path.string()) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) {
        throw RunError(path_ + ": no such PNG file");
    }
    if (!std::filesystem::is_regular_file(status)) {
        throw RunError(path_ + ": not a file, a PNG was expected");
    }
    num_bytes_ = std::filesystem::file_size(path, error);
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

PngReader::~PngReader() {
    png_destroy_read_struct(&png_, &info_, nullptr);
}

bool PngReader::is_png(const std::filesystem::path& path) {
    const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
    png_byte signature[8] = {};
    return file && std::fread(signature, 1, sizeof signature, file.get()) == sizeof signature &&
           png_sig_cmp(signature, 0, sizeof signature) == 0;
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
    unpacked_bytes_ = png_get_rowbytes(png_, info_) * height_px;
}

void PngReader::pixel_step() {
    if (color_type == PNG_COLOR_TYPE_PALETTE) {
        png_set_packing(png_);
    } else if (color_type == PNG_COLOR_TYPE_GRAY && bit_depth < 8) {
        png_set_expand_gray_1_2_4_to_8(png_);
    }
    read_rows();
}

void PngReader::rgb_step() {
    png_set_expand(png_);
    png_set_strip_16(png_);
    png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);
    read_rows();
}

void PngReader::read_rows() {
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    num_channels = png_get_channels(png_, info_);
    const std::size_t row_bytes = png_get_rowbytes(png_, info_);
    if (unpacked_bytes_ > kMostInflation * num_bytes_ + kMostInflation) {
        png_error(png_, "fewer bytes than its size needs");
    }
    pixels.resize(row_bytes * height_px);
    rows_.resize(height_px);
    for (std::size_t row = 0; row < height_px; ++row) {
        rows_[row] = pixels.data() + row * row_bytes;
    }
    png_read_image(png_, rows_.data());
    png_read_end(png_, nullptr);
}

}  // namespace matrix::media
