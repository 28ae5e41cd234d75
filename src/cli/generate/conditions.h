#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>

namespace matrix::cli::generate {

/// An image file at H x W, as the reference's pipeline brings it there: straight, with Lanczos, the
/// aspect ratio not kept. [3, 1, H, W] float32 in [-1, 1]. RunError naming the file.
[[nodiscard]] at::Tensor load_image(const std::filesystem::path& path, std::int64_t height_px,
                                    std::int64_t width_px);

/// The same of an ID map, without mixing its colours: an image in the colours of the IDs, or a
/// directory with idN.png, or with folders <idN> or idN of masks, the first of which counts.
/// RunError naming the file.
[[nodiscard]] at::Tensor load_id_map(const std::filesystem::path& path, std::int64_t height_px,
                                     std::int64_t width_px);

}  // namespace matrix::cli::generate
