#include <algorithm>
#include <optional>
#include <set>

#include "cli/import/source.h"
#include "matrix/core/error.h"
#include "matrix/media/image.h"

// SAM 2's folders for each object, and DAVIS's PNGs of object numbers.

namespace matrix::imports {
namespace {

namespace fs = std::filesystem;

constexpr std::uint8_t kVoid = 255;  // "not judged" in the palettes of video object segmentation

Mask mask_of(const at::Tensor& tensor, std::optional<std::uint8_t> value) {
    const auto* begin = tensor.const_data_ptr<std::uint8_t>();
    Mask mask{tensor.size(0), tensor.size(1), {begin, begin + tensor.numel()}};
    if (value) {
        std::ranges::transform(mask.pixels, mask.pixels.begin(), [value](std::uint8_t pixel) {
            return static_cast<std::uint8_t>(pixel == *value);
        });
    }
    return mask;
}

/// The number in "1", "003", "id1", "<id1>", "obj_1", "object_1".
std::optional<std::int64_t> object_number(std::string name) {
    if (name.starts_with('<') && name.ends_with('>')) {
        name = name.substr(1, name.size() - 2);
    }
    for (const std::string prefix : {"id", "object", "obj"}) {
        if (name.starts_with(prefix)) {
            name = name.substr(prefix.size());
            break;
        }
    }
    if (name.starts_with('_')) {
        name = name.substr(1);
    }
    const bool digits = !name.empty() && name.size() < 10 &&
                        std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
    return digits ? std::optional(std::stoll(name)) : std::nullopt;
}

bool holds_png(const fs::path& folder) {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        if (it->path().extension() == ".png") {
            return true;
        }
    }
    return false;
}

bool is_object_folder(const fs::path& clip, const std::string& name) {
    return object_number(name) && subfolders(clip / name).empty();
}

bool has_objects(const fs::path& clip) {
    return std::ranges::any_of(subfolders(clip),
                               [&](const auto& name) { return is_object_folder(clip, name); });
}

/// By number.
std::map<std::int64_t, fs::path> object_folders(const fs::path& clip) {
    std::map<std::int64_t, fs::path> folders;
    for (const std::string& name : subfolders(clip)) {
        if (!is_object_folder(clip, name)) {
            continue;
        }
        const auto [other, is_first] = folders.emplace(*object_number(name), clip / name);
        if (!is_first) {
            throw RunError((clip / name).string() + ": stands beside " +
                           other->second.filename().string() + "; keep one of them");
        }
    }
    return folders;
}

/// The first of these folders below `source` that is there, or `source` itself.
fs::path masks_below(const fs::path& source, const std::vector<std::string>& folders) {
    for (const std::string& folder : folders) {
        std::error_code ignored;
        if (fs::is_directory(source / folder, ignored)) {
            return source / folder;
        }
    }
    return source;
}

class Sam2 final : public Source {
public:
    Sam2(const fs::path& source, const fs::path& videos)
        : root_(masks_below(source, {"tracks", "masks", "mask_annotation"})),
          roots_(picture_roots(source, videos)) {
        for (const std::string& name : subfolders(root_)) {
            if (has_objects(root_ / name)) {
                names_.push_back(name);
            }
        }
        if (names_.empty() && has_objects(root_)) {  // one clip's folder
            const fs::path clip = fs::absolute(root_).lexically_normal() / "";
            names_.push_back(clip.parent_path().filename().string());
            roots_ = picture_roots(clip.parent_path().parent_path(), videos);
            root_ = clip.parent_path().parent_path();
        }
        if (names_.empty()) {
            throw RunError(source.string() +
                           ": holds no masks such as NAME/1/00000.png or NAME/id1/000.png");
        }
    }

    [[nodiscard]] std::vector<std::string> names() const override { return names_; }

    [[nodiscard]] SourceClip open(const std::string& name) const override {
        SourceClip clip;
        clip.pictures = find_pictures(roots_, name);
        std::vector<std::string> faults;
        for (const auto& [number, folder] : object_folders(root_ / name)) {
            try {
                auto files =
                    one_a_frame(numbered_files(folder, {".png"}), clip.pictures, folder.string());
                clip.tracks.push_back(
                    {number, "", [files = std::move(files)](std::int64_t frame) {
                         return mask_of(media::read_mask(files[static_cast<std::size_t>(frame)]),
                                        std::nullopt);
                     }});
            } catch (const RunError& error) {
                faults.insert(faults.end(), error.faults().begin(), error.faults().end());
            }
        }
        if (!faults.empty()) {
            throw RunError(faults);
        }
        return clip;
    }

private:
    fs::path root_;
    std::vector<fs::path> roots_;
    std::vector<std::string> names_;
};

/// Object numbers of one PNG after the other; several tracks ask for the same one.
class IndexReader {
public:
    explicit IndexReader(std::vector<fs::path> files) : files_(std::move(files)) {}

    const at::Tensor& read(std::int64_t frame) {
        if (frame != frame_) {
            indices_ = media::read_indices(files_[static_cast<std::size_t>(frame)]);
            frame_ = frame;
        }
        return indices_;
    }

    std::set<std::uint8_t> numbers() {
        std::set<std::uint8_t> found;
        for (std::int64_t frame = 0; frame < static_cast<std::int64_t>(files_.size()); ++frame) {
            const at::Tensor& indices = read(frame);
            const auto* begin = indices.const_data_ptr<std::uint8_t>();
            bool seen[256] = {};
            std::for_each(begin, begin + indices.numel(), [&](std::uint8_t i) { seen[i] = true; });
            for (int i = 1; i < 256; ++i) {
                if (seen[i]) {
                    found.insert(static_cast<std::uint8_t>(i));
                }
            }
        }
        return found;
    }

private:
    std::vector<fs::path> files_;
    at::Tensor indices_;  // [H, W]
    std::int64_t frame_ = -1;
};

class Davis final : public Source {
public:
    Davis(const fs::path& source, const fs::path& videos)
        : root_(masks_below(source, {"Annotations/480p", "Annotations/Full-Resolution",
                                     "Annotations/1080p", "Annotations"})),
          roots_(picture_roots(source, videos)) {
        for (const std::string& name : subfolders(root_)) {
            if (holds_png(root_ / name)) {
                names_.push_back(name);
            }
        }
        if (names_.empty()) {
            throw RunError(source.string() +
                           ": holds no masks such as Annotations/480p/NAME/00000.png or "
                           "NAME/00000.png");
        }
    }

    [[nodiscard]] std::vector<std::string> names() const override { return names_; }

    [[nodiscard]] SourceClip open(const std::string& name) const override {
        SourceClip clip;
        clip.pictures = find_pictures(roots_, name);
        const fs::path folder = root_ / name;
        const auto reader = std::make_shared<IndexReader>(
            one_a_frame(numbered_files(folder, {".png"}), clip.pictures, folder.string()));
        std::set<std::uint8_t> numbers = reader->numbers();
        const bool single = numbers == std::set{kVoid};  // black and white: DAVIS 2016
        if (!single) {
            numbers.erase(kVoid);
        }
        for (const std::uint8_t number : numbers) {
            clip.tracks.push_back({single ? 1 : number, "", [reader, number](std::int64_t frame) {
                                       return mask_of(reader->read(frame), number);
                                   }});
        }
        return clip;
    }

private:
    fs::path root_;
    std::vector<fs::path> roots_;
    std::vector<std::string> names_;
};

}  // namespace

std::vector<std::string> subfolders(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        std::error_code ignored;
        const std::string name = it->path().filename().string();
        if (it->is_directory(ignored) && !name.starts_with('.')) {
            names.push_back(name);
        }
    }
    if (error) {
        throw RunError(folder.string() + ": cannot be read (" + error.message() + ")");
    }
    std::ranges::sort(names);
    return names;
}

std::vector<fs::path> picture_roots(const fs::path& source, const fs::path& videos) {
    std::vector<fs::path> roots;
    std::error_code ignored;
    if (!videos.empty()) {
        roots.push_back(videos);
        return roots;
    }
    for (const char* folder : {"videos", "JPEGImages/480p", "JPEGImages/Full-Resolution",
                               "JPEGImages/1080p", "JPEGImages"}) {
        if (fs::is_directory(source / folder, ignored)) {
            roots.push_back(source / folder);
        }
    }
    if (roots.empty()) {
        roots.push_back(source / "videos");  // for the message
    }
    return roots;
}

std::unique_ptr<Source> open_sam2(const fs::path& source, const fs::path& videos) {
    return std::make_unique<Sam2>(source, videos);
}

std::unique_ptr<Source> open_davis(const fs::path& source, const fs::path& videos) {
    return std::make_unique<Davis>(source, videos);
}

}  // namespace matrix::imports
