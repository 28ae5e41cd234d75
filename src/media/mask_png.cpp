#include "matrix/core/error.h"
#include "matrix/media/image.h"
#include "media/png_reader.h"

#include <ATen/ATen.h>

#include <png.h>

#include <algorithm>

namespace matrix::media {

namespace {

void read_mask_header(PngReader& reader, const std::filesystem::path& path) {
    reader.read_header();
    if (reader.bit_depth == 16) {
        throw RunError(path.string() +
                       ": 16 bits a channel, a mask must have 8 (or be a palette or 1-bit image)");
    }
}

}  // namespace

at::Tensor read_mask(const std::filesystem::path& path) {
    PngReader reader(path);
    read_mask_header(reader, path);
    reader.read_pixels();
    const bool palette = reader.color_type == PNG_COLOR_TYPE_PALETTE;
    const bool alpha = !palette && (reader.color_type & PNG_COLOR_MASK_ALPHA) != 0;
    const std::size_t num_colors = reader.num_channels - (alpha ? 1 : 0);
    const unsigned char threshold = palette ? 0 : 127;

    at::Tensor mask = at::empty({reader.height_px, reader.width_px}, at::kByte);
    auto* out = mask.mutable_data_ptr<std::uint8_t>();
    const unsigned char* pixel = reader.pixels.data();
    for (std::int64_t i = 0; i < mask.numel(); ++i, pixel += reader.num_channels) {
        bool set = false;
        for (std::size_t channel = 0; channel < num_colors; ++channel) {
            set = set || pixel[channel] > threshold;
        }
        out[i] = set ? 1 : 0;
    }
    return mask;
}

at::Tensor read_indices(const std::filesystem::path& path) {
    PngReader reader(path);
    reader.read_header();
    const bool indexed = reader.color_type == PNG_COLOR_TYPE_PALETTE ||
                         (reader.color_type == PNG_COLOR_TYPE_GRAY && reader.bit_depth <= 8);
    if (!indexed) {
        throw RunError(path.string() +
                       ": has colours or 16 bits a channel; object numbers are the indices of a "
                       "palette PNG or the values of an 8-bit grey one");
    }
    reader.read_pixels();
    at::Tensor indices = at::empty({reader.height_px, reader.width_px}, at::kByte);
    std::copy(reader.pixels.begin(), reader.pixels.end(), indices.mutable_data_ptr<std::uint8_t>());
    return indices;
}

ImageSize mask_size(const std::filesystem::path& path) {
    PngReader reader(path);
    read_mask_header(reader, path);
    return {static_cast<std::int64_t>(reader.width_px),
            static_cast<std::int64_t>(reader.height_px)};
}

}  // namespace matrix::media
