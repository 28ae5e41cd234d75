#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace matrix::media {

/// Any image file OpenCV reads, as 8-bit RGB [H, W, 3] uint8. RunError naming the file.
[[nodiscard]] at::Tensor read_image(const std::filesystem::path& path);

/// PNG, written atomically. [H, W, 3] RGB or [H, W] grey, uint8.
void write_png(const std::filesystem::path& path, const at::Tensor& image);

/// [H, W, 3] RGB uint8 as a JPEG file's bytes; `quality` up to 100.
[[nodiscard]] std::string encode_jpeg(const at::Tensor& image, int quality = 85);

/// A mask PNG (libpng, so that palette indices survive): 8-bit grey, palette or colour, or 1-bit;
/// foreground is any colour channel > 127, for palettes any index but 0; alpha is ignored. Sixteen
/// bits a channel is a RunError. [H, W] uint8 of zeros and ones.
[[nodiscard]] at::Tensor read_mask(const std::filesystem::path& path);

/// The indices of a palette PNG, or the values of an 8-bit grey one, as DAVIS numbers its objects.
/// RunError naming the file: colours, alpha or 16 bits a channel, or damage. [H, W] uint8.
[[nodiscard]] at::Tensor read_indices(const std::filesystem::path& path);

struct ImageSize {
    std::int64_t width_px = 0;
    std::int64_t height_px = 0;
};
/// From the header alone. Sixteen bits a channel is a RunError, as for `read_mask`.
[[nodiscard]] ImageSize mask_size(const std::filesystem::path& path);

}  // namespace matrix::media
