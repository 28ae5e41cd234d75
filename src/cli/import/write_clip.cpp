#include "cli/import/write_clip.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "matrix/core/error.h"
#include "matrix/core/signals.h"
#include "matrix/data_source/clip.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::imports {
namespace {

namespace fs = std::filesystem;

/// What fails in here fails for every clip.
template <typename Step>
auto writing(Step&& step) {
    try {
        return step();
    } catch (const RunError& error) {
        throw TargetError(error.what());
    } catch (const fs::filesystem_error& error) {
        throw TargetError(error.what());
    }
}

void stop_if_asked() {
    if (const auto signal = stop_signal()) {
        throw Stopped{*signal};
    }
}

void encode(const Pictures& pictures, const fs::path& file, double frames_per_second) {
    const std::int64_t height = pictures.height_px / 2 * 2, width = pictures.width_px / 2 * 2;
    if (height == 0 || width == 0) {
        throw RunError(pictures.frames[0].string() + ": a picture of one pixel makes no video");
    }
    auto writer = writing([&] {
        return std::make_unique<media::VideoWriter>(file, width, height, frames_per_second);
    });
    for (const fs::path& path : pictures.frames) {
        stop_if_asked();
        const at::Tensor frame = media::read_image(path);  // [H, W, 3]
        if (frame.size(0) != pictures.height_px || frame.size(1) != pictures.width_px) {
            throw RunError(path.string() + ": is " + std::to_string(frame.size(1)) + " x " +
                           std::to_string(frame.size(0)) + " pixels, the clip's first picture is " +
                           std::to_string(pictures.width_px) + " x " +
                           std::to_string(pictures.height_px));
        }
        writing(
            [&] { writer->write(frame.narrow(0, 0, height).narrow(1, 0, width).contiguous()); });
    }
    writing([&] { writer->finish(); });
}

/// [H, W] uint8 of 0 and 255, cut as the clip's own pictures are.
at::Tensor picture_of(Mask& mask, const Pictures& pictures) {
    const at::Tensor pixels =
        at::from_blob(mask.pixels.data(), {mask.height_px, mask.width_px}, at::kByte);
    const bool cut = !pictures.frames.empty() && mask.height_px == pictures.height_px &&
                     mask.width_px == pictures.width_px;
    const at::Tensor kept =
        cut ? pixels.narrow(0, 0, mask.height_px / 2 * 2).narrow(1, 0, mask.width_px / 2 * 2)
            : pixels;
    return kept.mul(255).contiguous();
}

fs::path id_folder(const fs::path& root, const std::string& name, std::int64_t id) {
    return root / "mask_annotation" / name / ("<id" + std::to_string(id) + ">");
}

std::string video_name(const std::string& name, const Pictures& pictures) {
    return name + (pictures.frames.empty() ? pictures.video.extension().string() : ".mp4");
}

/// Removes a file or an empty folder, and then what is empty without it, up to `top`.
void remove_upwards(fs::path path, const fs::path& top) {
    std::error_code ignored;
    while (path != top && fs::remove(path, ignored)) {
        path = path.parent_path();
    }
}

std::string mask_name(std::int64_t frame, std::int64_t num_frames) {
    const std::string number = std::to_string(frame);
    const std::size_t digits = std::max<std::size_t>(3, std::to_string(num_frames - 1).size());
    return std::string(digits - number.size(), '0') + number + ".png";
}

void write_masks(const fs::path& root, const std::string& name, const Pictures& pictures,
                 const std::map<std::int64_t, Track>& tracks) {
    media::VideoInfo info;
    info.width_px = pictures.width_px;
    info.height_px = pictures.height_px;
    std::map<std::int64_t, std::string> faults;  // the first of each track
    for (std::int64_t frame = 0; frame < pictures.num_frames; ++frame) {
        stop_if_asked();
        for (const auto& [id, track] : tracks) {
            if (faults.contains(id)) {
                continue;
            }
            try {
                Mask mask = track.mask(frame);
                data_source::check_mask_size(name + " object " + std::to_string(track.number) +
                                                 " frame " + std::to_string(frame),
                                             mask.height_px, mask.width_px, info);
                writing([&] {
                    media::write_png(
                        id_folder(root, name, id) / mask_name(frame, pictures.num_frames),
                        picture_of(mask, pictures));
                });
            } catch (const RunError& error) {
                faults[id] = error.what();
            }
        }
    }
    std::vector<std::string> lines;
    for (const auto& [id, fault] : faults) {
        lines.push_back(fault);
    }
    if (!lines.empty()) {
        throw RunError(lines);
    }
}

}  // namespace

std::string write_clip(const fs::path& root, const std::string& name, const Pictures& pictures,
                       const std::map<std::int64_t, Track>& tracks, double frames_per_second) {
    const fs::path video = root / "videos" / video_name(name, pictures);
    writing([&] { fs::create_directories(video.parent_path()); });
    write_masks(root, name, pictures, tracks);
    if (pictures.frames.empty()) {
        writing([&] { fs::copy_file(pictures.video, video); });
    } else {
        encode(pictures, video, frames_per_second);
    }
    return video_name(name, pictures);
}

void remove_clip(const fs::path& root, const std::string& name, const Pictures& pictures,
                 const std::map<std::int64_t, Track>& tracks) {
    std::error_code ignored;
    for (const auto& [id, track] : tracks) {
        fs::remove_all(id_folder(root, name, id), ignored);
    }
    remove_upwards(root / "mask_annotation" / name, root / "mask_annotation");
    remove_upwards(root / "videos" / video_name(name, pictures), root / "videos");
}

}  // namespace matrix::imports
