#include "matrix/media/image.h"

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "media/png_reader.h"

#include <ATen/ATen.h>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <vector>

namespace matrix::media {

namespace {

std::vector<unsigned char> read_bytes(const std::filesystem::path& path) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) {
        throw RunError(path.string() + ": no such image file");
    }
    if (!std::filesystem::is_regular_file(status)) {
        throw RunError(path.string() + ": not a file, an image was expected");
    }
    std::ifstream file(path, std::ios::binary);
    std::vector<unsigned char> bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file) {
        throw RunError(path.string() + ": cannot be read");
    }
    return bytes;
}

/// By libpng itself, since OpenCV lets it write its complaints to stderr.
at::Tensor read_png(const std::filesystem::path& path) {
    PngReader reader(path);
    reader.read_header();
    reader.read_rgb();
    at::Tensor image = at::empty({reader.height_px, reader.width_px, 3}, at::kByte);
    std::copy(reader.pixels.begin(), reader.pixels.end(), image.mutable_data_ptr<std::uint8_t>());
    return image;
}

}  // namespace

at::Tensor read_image(const std::filesystem::path& path) {
    if (PngReader::is_png(path)) {
        return read_png(path);
    }
    const std::vector<unsigned char> bytes = read_bytes(path);
    cv::Mat bgr;
    if (!bytes.empty()) {
        try {
            bgr = cv::imdecode(bytes, cv::IMREAD_COLOR);
        } catch (const cv::Exception&) {
            bgr.release();
        }
    }
    if (bgr.empty()) {
        throw RunError(path.string() + ": not an image that can be read (PNG, JPEG, WebP, ...)");
    }
    at::Tensor image = at::empty({bgr.rows, bgr.cols, 3}, at::kByte);
    cv::Mat rgb(bgr.rows, bgr.cols, CV_8UC3, image.mutable_data_ptr<std::uint8_t>());
    cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    return image;
}

std::string encode_jpeg(const at::Tensor& image, int quality) {
    TORCH_CHECK(image.scalar_type() == at::kByte && image.dim() == 3 && image.size(2) == 3 &&
                    image.numel() > 0,
                "encode_jpeg: uint8 [H, W, 3] wanted, not ", image.scalar_type(), " ",
                image.sizes());
    const at::Tensor pixels = image.cpu().contiguous();
    const cv::Mat source(static_cast<int>(pixels.size(0)), static_cast<int>(pixels.size(1)),
                         CV_8UC3, pixels.data_ptr());
    cv::Mat bgr;
    cv::cvtColor(source, bgr, cv::COLOR_RGB2BGR);
    std::vector<unsigned char> bytes;
    cv::imencode(".jpg", bgr, bytes, {cv::IMWRITE_JPEG_QUALITY, quality});
    return {bytes.begin(), bytes.end()};
}

void write_png(const std::filesystem::path& path, const at::Tensor& image) {
    const bool color = image.dim() == 3 && image.size(2) == 3;
    TORCH_CHECK(
        image.scalar_type() == at::kByte && (color || image.dim() == 2) && image.numel() > 0,
        "write_png: uint8 [H, W, 3] or [H, W] wanted, not ", image.scalar_type(), " ",
        image.sizes());
    const at::Tensor pixels = image.cpu().contiguous();
    const cv::Mat source(static_cast<int>(pixels.size(0)), static_cast<int>(pixels.size(1)),
                         color ? CV_8UC3 : CV_8UC1, pixels.data_ptr());
    cv::Mat bgr = source;
    if (color) {
        bgr = cv::Mat();
        cv::cvtColor(source, bgr, cv::COLOR_RGB2BGR);
    }
    std::vector<unsigned char> bytes;
    cv::imencode(".png", bgr, bytes);
    write_file_atomically(
        path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace matrix::media
