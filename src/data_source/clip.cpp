#include "matrix/data_source/clip.h"

#include "matrix/core/error.h"
#include "matrix/data_cache/index.h"
#include "matrix/data_source/frames.h"
#include "matrix/media/geometry.h"
#include "matrix/media/image.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdlib>

namespace matrix::data_source {
namespace {

namespace fs = std::filesystem;
using data_cache::DataConfig;

// The number in "<id3>" or "id3"; none for any other name.
std::optional<std::int64_t> id_of(std::string name) {
    if (name.starts_with('<') && name.ends_with('>')) {
        name = name.substr(1, name.size() - 2);
    }
    if (!name.starts_with("id") || name.size() < 3 || name.size() > 6 ||
        !std::all_of(name.begin() + 2, name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        return std::nullopt;
    }
    return std::stoll(name.substr(2));
}

void require_named_ids(const Row& row, const std::vector<IdFolder>& folders,
                       std::vector<std::string>& faults) {
    const auto require = [&](const Phrase& phrase) {
        const bool there =
            std::ranges::any_of(folders, [&](const IdFolder& f) { return f.id == phrase.id; });
        if (!there) {
            const std::string id = std::to_string(phrase.id);
            faults.push_back(row.mask_path.string() + ": has no folder <id" + id + "> or id" + id +
                             " for \"" + phrase.text + "\" of " + row.where);
        }
    };
    for (const Interaction& interaction : row.interactions) {
        require(interaction.subject);
        if (interaction.object) {
            require(*interaction.object);
        }
    }
}

media::Geometry geometry_of(const media::VideoInfo& info, const DataConfig& config) {
    return media::fit(info.height_px, info.width_px, config.height, config.width,
                      config.resize == "crop" ? media::Resize::kCrop : media::Resize::kStretch);
}

at::Tensor load_video(const Row& row, const ClipPlan& plan, const media::Geometry& geometry) {
    std::vector<std::int64_t> distinct = plan.indices;
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    const at::Tensor frames = media::read_video_frames(row.video_path, distinct);
    at::Tensor video =
        media::to_model_range(media::resize_frames(frames, geometry));  // [3, distinct, H, W]
    if (distinct.size() != plan.indices.size()) {
        std::vector<std::int64_t> rows;
        for (const std::int64_t index : plan.indices) {
            rows.push_back(std::ranges::lower_bound(distinct, index) - distinct.begin());
        }
        video = video.index_select(1, at::tensor(rows, at::kLong));
    }
    return video;
}

at::Tensor load_mask(const IdFolder& folder, std::int64_t frame, const ClipPlan& plan,
                     const media::Geometry& geometry) {
    const fs::path path = folder.path / folder.files[static_cast<std::size_t>(frame)];
    const at::Tensor mask = media::read_mask(path);
    check_mask_size(path, mask.size(0), mask.size(1), plan.info);
    return media::resize_mask(mask, geometry);
}

// [T, H, W]; with `first_only` [1, H, W].
at::Tensor load_track(const IdFolder& folder, const ClipPlan& plan, const media::Geometry& geometry,
                      bool first_only) {
    const std::size_t count = first_only ? 1 : plan.indices.size();
    at::Tensor track = at::empty(
        {static_cast<std::int64_t>(count), geometry.height_px, geometry.width_px}, at::kByte);
    for (std::size_t i = 0; i < count; ++i) {
        const auto row = static_cast<std::int64_t>(i);
        if (i > 0 && plan.indices[i] == plan.indices[i - 1]) {
            track[row].copy_(track[row - 1]);
        } else {
            track[row].copy_(load_mask(folder, plan.indices[i], plan, geometry));
        }
    }
    return track;
}

at::Tensor paint(const std::vector<at::Tensor>& first_masks, const std::vector<std::int64_t>& ids,
                 const DataConfig& config) {
    const at::Tensor painted = ids.empty() ? at::zeros({config.height, config.width, 3}, at::kByte)
                                           : media::paint_id_map(first_masks, ids);
    return media::to_model_range(painted.unsqueeze(0)).squeeze(1);
}

}  // namespace

void check_mask_size(const fs::path& mask, std::int64_t height_px, std::int64_t width_px,
                     const media::VideoInfo& video) {
    // |mask height - video height * (mask width / video width)| <= 1 and the same for the width, in
    // integers.
    const std::int64_t difference =
        std::llabs(height_px * video.width_px - video.height_px * width_px);
    if (difference > std::min(video.width_px, video.height_px)) {
        throw RunError(
            mask.string() + ": is " + std::to_string(width_px) + " x " + std::to_string(height_px) +
            " pixels, which is not the shape of its video (" + std::to_string(video.width_px) +
            " x " + std::to_string(video.height_px) + ")");
    }
}

std::vector<std::int64_t> count_pixels(const at::Tensor& tracks) {
    const at::Tensor counts = tracks.sum({1, 2, 3}, false, at::kLong);
    return {counts.const_data_ptr<std::int64_t>(),
            counts.const_data_ptr<std::int64_t>() + counts.numel()};
}

at::Tensor first_frame_cells(const at::Tensor& tracks, bool nearest) {
    at::Tensor cells =
        at::zeros({tracks.size(0), tracks.size(2) / 16, tracks.size(3) / 16}, at::kByte);
    for (std::int64_t i = 0; i < tracks.size(0); ++i) {
        cells[i].copy_(media::query_cells(tracks[i][0], nearest));
    }
    return cells;
}

std::vector<IdFolder> find_id_folders(const Row& row) {
    std::vector<IdFolder> folders;
    std::vector<std::string> faults;
    std::error_code error;
    for (fs::directory_iterator it(row.mask_path, error), end; !error && it != end;
         it.increment(error)) {
        std::error_code ignored;
        const std::string name = it->path().filename().string();
        const auto id = id_of(name);
        if (!id || !it->is_directory(ignored)) {
            continue;
        }
        if (*id < 1 || *id > 5) {
            faults.push_back(it->path().string() + ": IDs run from 1 to 5");
            continue;
        }
        folders.push_back({*id, name, it->path(), data_cache::list_masks(it->path())});
    }
    if (error && error != std::errc::no_such_file_or_directory) {
        throw RunError(row.mask_path.string() + ": " + error.message());
    }
    std::ranges::sort(folders, {}, [](const IdFolder& f) { return std::pair(f.id, f.name); });
    for (std::size_t i = 1; i < folders.size(); ++i) {
        if (folders[i].id == folders[i - 1].id) {
            faults.push_back(folders[i].path.string() + ": stands beside " + folders[i - 1].name +
                             "; keep one of them");
        }
    }
    require_named_ids(row, folders, faults);
    if (!faults.empty()) {
        throw RunError(faults);
    }
    return folders;
}

ClipParts parts_of(const Row& row, const DataConfig& config) {
    return {true, !row.interactions.empty(), config.id_map};
}

ClipPlan plan_clip(const Row& row, const DataConfig& config) {
    ClipPlan plan;
    std::vector<std::string> faults;
    const auto collect = [&](auto&& step) {
        try {
            step();
        } catch (const RunError& e) {
            faults.insert(faults.end(), e.faults().begin(), e.faults().end());
        }
    };
    collect([&] {
        std::error_code error;
        if (!fs::exists(row.video_path, error)) {
            throw RunError(row.video_path.string() + ": " + (error ? error.message() : "missing") +
                           ", named by " + row.where);
        }
        plan.info = media::probe_video(row.video_path);
        plan.indices = frame_indices(config, plan.info, row.video_path);
    });
    const ClipParts parts = parts_of(row, config);
    if (parts.tracks || parts.id_map) {
        collect([&] { plan.folders = find_id_folders(row); });
    }
    // The ID map alone asks for the first mask only.
    const std::int64_t last = plan.indices.empty() ? 0 : parts.tracks ? plan.indices.back() : 0;
    for (const IdFolder& folder : plan.folders) {
        if (static_cast<std::int64_t>(folder.files.size()) <= last) {
            faults.push_back(folder.path.string() + ": holds " +
                             std::to_string(folder.files.size()) + " masks (.png), " +
                             std::to_string(last + 1) + " are needed, one a frame");
        }
    }
    if (!faults.empty()) {
        throw RunError(faults);
    }
    return plan;
}

Clip load_clip(const Row& row, const DataConfig& config, ClipParts parts) {
    const ClipPlan plan = plan_clip(row, config);
    const media::Geometry geometry = geometry_of(plan.info, config);
    Clip clip;
    clip.frames_per_second = plan.info.frames_per_second;
    if (parts.video) {
        clip.video = load_video(row, plan, geometry);
    }
    if (!parts.tracks && !parts.id_map) {
        return clip;
    }
    std::vector<at::Tensor> tracks, first_masks;
    for (const IdFolder& folder : plan.folders) {
        tracks.push_back(load_track(folder, plan, geometry, !parts.tracks));
        first_masks.push_back(tracks.back()[0]);
        clip.ids.push_back(folder.id);
    }
    if (parts.tracks) {
        clip.tracks = tracks.empty()
                          ? at::zeros({0, config.frames, config.height, config.width}, at::kByte)
                          : at::stack(tracks);
    }
    if (parts.id_map) {
        clip.id_map = paint(first_masks, clip.ids, config);
    }
    return clip;
}

}  // namespace matrix::data_source
