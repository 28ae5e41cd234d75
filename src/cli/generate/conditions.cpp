#include "cli/generate/conditions.h"

#include <ATen/ATen.h>

#include <system_error>
#include <vector>

#include "matrix/core/error.h"
#include "matrix/data_source/clip.h"
#include "matrix/media/geometry.h"
#include "matrix/media/image.h"

namespace matrix::cli::generate {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxId = 5;

struct IdMask {
    std::int64_t id;
    fs::path file;
};

/// In ID order.
std::vector<IdMask> find_masks(const fs::path& directory) {
    data_source::Row row;
    row.mask_path = directory;
    std::vector<IdMask> masks;
    for (const data_source::IdFolder& folder : data_source::find_id_folders(row)) {
        if (folder.files.empty()) {
            throw RunError(folder.path.string() + ": holds no masks (.png)");
        }
        masks.push_back({folder.id, folder.path / folder.files.front()});
    }
    if (masks.empty()) {
        std::error_code ignored;
        for (std::int64_t id = 1; id <= kMaxId; ++id) {
            const fs::path file = directory / ("id" + std::to_string(id) + ".png");
            if (fs::exists(file, ignored)) {
                masks.push_back({id, file});
            }
        }
    }
    if (masks.empty()) {
        throw RunError(directory.string() +
                       ": holds neither masks id1.png to id5.png nor folders <id1> to <id5>");
    }
    return masks;
}

at::Tensor paint(const fs::path& directory, std::int64_t height_px, std::int64_t width_px) {
    std::vector<at::Tensor> masks;
    std::vector<std::int64_t> ids;
    for (const IdMask& found : find_masks(directory)) {
        const at::Tensor mask = media::read_mask(found.file);
        masks.push_back(media::resize_mask(mask, media::fit(mask.size(0), mask.size(1), height_px,
                                                            width_px, media::Resize::kStretch)));
        ids.push_back(found.id);
    }
    return media::paint_id_map(masks, ids);
}

/// [h, w, 3] to [H, W, 3], nearest.
at::Tensor resize_colors(const at::Tensor& image, std::int64_t height_px, std::int64_t width_px) {
    const media::Geometry geometry =
        media::fit(image.size(0), image.size(1), height_px, width_px, media::Resize::kStretch);
    std::vector<at::Tensor> channels;
    for (const at::Tensor& channel : image.unbind(2)) {
        channels.push_back(media::resize_mask(channel.contiguous(), geometry));
    }
    return at::stack(channels, 2);
}

}  // namespace

at::Tensor load_image(const fs::path& path, std::int64_t height_px, std::int64_t width_px) {
    const at::Tensor image = media::resize_lanczos(media::read_image(path), height_px, width_px);
    return media::to_model_range(image.unsqueeze(0));
}

at::Tensor load_id_map(const fs::path& path, std::int64_t height_px, std::int64_t width_px) {
    std::error_code ignored;
    const at::Tensor map = fs::is_directory(path, ignored)
                               ? paint(path, height_px, width_px)
                               : resize_colors(media::read_image(path), height_px, width_px);
    return media::to_model_range(map.unsqueeze(0));
}

}  // namespace matrix::cli::generate
