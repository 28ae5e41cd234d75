#include "eval/boxes.h"

#include <algorithm>
#include <cmath>

#include "eval/json_reading.h"
#include "eval/paint.h"
#include "matrix/core/error.h"
#include "matrix/eval/layout.h"

namespace matrix::eval {
namespace {

constexpr double kPadding = 0.08;

DetectedBox read_box(const Json& object, const std::string& where, std::size_t position) {
    DetectedBox box{text_of(object, "label", where), {}, static_cast<std::int64_t>(position)};
    const Json& corners = array_of(object, "bbox", where);
    if (corners.size() != 4 ||
        !std::all_of(corners.begin(), corners.end(), [](const Json& c) { return c.is_number(); })) {
        throw RunError(where + ": `bbox` should be [x1, y1, x2, y2]");
    }
    std::copy(corners.begin(), corners.end(), box.corners.begin());
    if (object.contains("obj_id") && object.at("obj_id").is_number_integer()) {
        box.object_id = object.at("obj_id").get<std::int64_t>();
    }
    return box;
}

std::string id_of(const Json& entry, const std::string& where) {
    if (entry.is_object() && entry.contains("sample_id") &&
        entry.at("sample_id").is_number_unsigned()) {
        return video_id(entry.at("sample_id").get<std::size_t>());
    }
    return text_of(entry, "sample_id", where);
}

/// `padding` of its size added on each side, cut to whole pixels of the image.
PixelBox pixels(const DetectedBox& box, double padding, const at::Tensor& image) {
    const auto& [x1, y1, x2, y2] = box.corners;
    const double dx = padding * (x2 - x1);
    const double dy = padding * (y2 - y1);
    const auto height = static_cast<double>(image.size(0));
    const auto width = static_cast<double>(image.size(1));
    const auto clamped = [](double value, double most) {
        return static_cast<std::int64_t>(std::clamp(value, 0.0, most));
    };
    return {clamped(std::floor(y1 - dy), height), clamped(std::floor(x1 - dx), width),
            clamped(std::ceil(y2 + dy), height) - 1, clamped(std::ceil(x2 + dx), width) - 1};
}

}  // namespace

std::map<std::string, Detections> read_boxes(const std::filesystem::path& path) {
    const Json file = read_json(path);
    std::map<std::string, Detections> result;
    for (const Json& entry : expect_array(file, path.string())) {
        const std::string id = id_of(entry, path.string());
        const std::string where = path.string() + ": sample " + id;
        Detections found;
        try {
            for (const Json& object : array_of(entry, "objects", where)) {
                found.boxes.push_back(read_box(object, where, found.boxes.size()));
            }
        } catch (const RunError& error) {
            found.fault = error.what();
        }
        if (!result.emplace(id, std::move(found)).second) {
            throw RunError(where + " stands twice");
        }
    }
    return result;
}

at::Tensor padded_crop(const at::Tensor& image, const DetectedBox& box) {
    const PixelBox crop = pixels(box, kPadding, image);
    if (crop.empty()) {
        throw RunError("the box of a " + box.label + " is empty or outside the image");
    }
    return image.slice(0, crop.top, crop.bottom + 1).slice(1, crop.left, crop.right + 1);
}

at::Tensor with_box(const at::Tensor& image, const DetectedBox& box, std::size_t index) {
    at::Tensor copy = image.clone();
    draw_box(copy, pixels(box, 0.0, image), object_color(index % kColorNames.size()));
    return copy;
}

}  // namespace matrix::eval
