#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace matrix::eval {

/// A detector's box: corners x1, y1, x2, y2 in pixels.
struct DetectedBox {
    std::string label;
    std::array<double, 4> corners{};
    std::int64_t object_id = 0;
};

/// An entry of bbox_meta.json, or what is wrong with it: file, entry and field.
struct Detections {
    std::vector<DetectedBox> boxes;
    std::string fault;
};
/// By video id. RunError for a file that is no array of samples with an id, each once.
[[nodiscard]] std::map<std::string, Detections> read_boxes(const std::filesystem::path& path);

/// [h, w, 3] of an image [H, W, 3]: the box with 8 % of its size on each side, within the image.
/// RunError for a box outside of it.
[[nodiscard]] at::Tensor padded_crop(const at::Tensor& image, const DetectedBox& box);

/// A copy of the image with the box in the colour of object `index`.
[[nodiscard]] at::Tensor with_box(const at::Tensor& image, const DetectedBox& box,
                                  std::size_t index);

}  // namespace matrix::eval
