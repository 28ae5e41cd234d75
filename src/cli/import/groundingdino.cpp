#include <algorithm>
#include <set>

#include "cli/import/json_help.h"
#include "cli/import/npy.h"
#include "cli/import/segmentation.h"
#include "cli/import/source.h"
#include "matrix/core/error.h"

// What Grounded-SAM-2 writes.

namespace matrix::imports {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uint16_t kMaxNumber = 65535;

/// Where one object is. RunError if there is one that nobody named.
Mask mask_of(const fs::path& file, std::int64_t number, const std::vector<bool>& named) {
    const NpyImage image = read_npy(file);
    Mask mask{image.height_px, image.width_px, {}};
    mask.pixels.reserve(image.values.size());
    for (const std::uint16_t value : image.values) {
        if (!named[value]) {
            throw RunError(file.string() + ": holds an object " + std::to_string(value) +
                           ", which no file of json_data names");
        }
        mask.pixels.push_back(value == number ? 1 : 0);
    }
    return mask;
}

/// Its tracker: object numbers in .npy files, class names in JSON files of the same names.
SourceClip open_tracker(const fs::path& clip_folder, Pictures pictures) {
    SourceClip clip;
    clip.pictures = std::move(pictures);
    const fs::path folder = clip_folder / "mask_data";
    const auto files = std::make_shared<std::vector<fs::path>>(
        one_a_frame(numbered_files(folder, {".npy"}), clip.pictures, folder.string()));
    std::map<std::int64_t, std::string> labels;
    for (const auto& [number, file] : numbered_files(clip_folder / "json_data", {".json"})) {
        const json frame = read_json_file(file);
        const auto objects = frame.is_object() ? frame.find("labels") : frame.end();
        if (objects == frame.end() || !objects->is_object()) {
            throw RunError(file.string() + ": must have \"labels\", an object by instance");
        }
        for (const auto& [key, object] : objects->items()) {
            const auto id = integer_at(object, "instance_id");
            if (!id || *id < 1 || *id > kMaxNumber) {
                throw RunError(file.string() + ": labels." + key +
                               ".instance_id must be a number from 1");
            }
            labels[*id] = text_at(object, "class_name").value_or("");
        }
    }
    const auto named = std::make_shared<std::vector<bool>>(kMaxNumber + 1);
    (*named)[0] = true;  // what is no object
    for (const auto& [number, label] : labels) {
        (*named)[static_cast<std::size_t>(number)] = true;
        clip.tracks.push_back({number, label, [files, named, number = number](std::int64_t frame) {
                                   return mask_of((*files)[static_cast<std::size_t>(frame)], number,
                                                  *named);
                               }});
    }
    return clip;
}

/// Its detector run on every frame: the class is what ties the masks of an instance together.
class Detections {
public:
    Detections(const std::vector<fs::path>& files, const Pictures& pictures) : pictures_(pictures) {
        std::vector<std::string> faults;
        for (const fs::path& file : files) {
            try {
                read(file);
            } catch (const RunError& error) {
                faults.insert(faults.end(), error.faults().begin(), error.faults().end());
                frames_.emplace_back();
            }
        }
        if (!faults.empty()) {
            throw RunError(faults);
        }
    }

    [[nodiscard]] std::vector<std::string> classes() const {
        std::vector<std::string> found;  // in the order of appearance
        for (const Frame& frame : frames_) {
            for (const auto& [name, segmentation] : frame.masks) {
                if (std::ranges::find(found, name) == found.end()) {
                    found.push_back(name);
                }
            }
        }
        return found;
    }

    [[nodiscard]] Mask mask(const std::string& name, std::int64_t index) const {
        const Frame& frame = frames_[static_cast<std::size_t>(index)];
        const auto it = frame.masks.find(name);
        try {
            return read_segmentation(it == frame.masks.end() ? json() : it->second,
                                     pictures_.height_px, pictures_.width_px);
        } catch (const RunError& error) {
            throw RunError(frame.file.string() + ": the mask of \"" + name + "\": " + error.what());
        }
    }

private:
    struct Frame {
        fs::path file;
        std::map<std::string, json> masks;
    };

    void read(const fs::path& file) {
        const json found = read_json_file(file);
        const auto annotations = found.is_object() ? found.find("annotations") : found.end();
        if (annotations == found.end() || !annotations->is_array()) {
            throw RunError(file.string() + ": must be an object with a list \"annotations\"");
        }
        Frame frame{file, {}};
        for (std::size_t i = 0; i < annotations->size(); ++i) {
            const json& annotation = (*annotations)[i];
            const std::string where = file.string() + ": annotations[" + std::to_string(i) + "]";
            const auto name = text_at(annotation, "class_name");
            if (!name) {
                throw RunError(where + " has no \"class_name\"");
            }
            if (!annotation.contains("segmentation")) {
                throw RunError(
                    where +
                    " has a box and no mask; track it with SAM 2, and import those masks "
                    "with --from sam2 --labels and this file");
            }
            if (!frame.masks.emplace(*name, annotation["segmentation"]).second) {
                throw RunError(where + " is a second \"" + *name +
                               "\" in one frame, and nothing tells which is which in the next; "
                               "track them with SAM 2");
            }
        }
        frames_.push_back(std::move(frame));
    }

    Pictures pictures_;
    std::vector<Frame> frames_;
};

SourceClip open_detections(const fs::path& folder, Pictures pictures) {
    SourceClip clip;
    clip.pictures = std::move(pictures);
    const auto found = std::make_shared<Detections>(
        one_a_frame(numbered_files(folder, {".json"}), clip.pictures, folder.string()),
        clip.pictures);
    for (const std::string& name : found->classes()) {
        clip.tracks.push_back(
            {static_cast<std::int64_t>(clip.tracks.size()) + 1, name,
             [found, name](std::int64_t frame) { return found->mask(name, frame); }});
    }
    return clip;
}

class GroundingDino final : public Source {
public:
    GroundingDino(fs::path source, const fs::path& videos) : root_(std::move(source)) {
        std::error_code ignored;
        if (fs::is_regular_file(root_, ignored)) {
            throw RunError(
                root_.string() +
                ": is one file; name the folder with a JSON file for each frame, or import "
                "SAM 2's masks with --from sam2 --labels " +
                root_.filename().string());
        }
        if (fs::is_directory(root_ / "mask_data", ignored)) {  // one clip's folder
            const fs::path clip = (fs::absolute(root_).lexically_normal() / "").parent_path();
            names_.push_back(clip.filename().string());
            root_ = clip.parent_path();
        } else {
            for (const std::string& name : subfolders(root_)) {
                if (is_clip(root_ / name)) {
                    names_.push_back(name);
                }
            }
        }
        roots_ = picture_roots(root_, videos);
        if (names_.empty()) {
            throw RunError(
                root_.string() +
                ": holds neither NAME/mask_data with NAME/json_data nor NAME/00000.json");
        }
    }

    [[nodiscard]] std::vector<std::string> names() const override { return names_; }

    [[nodiscard]] SourceClip open(const std::string& name) const override {
        std::error_code ignored;
        Pictures pictures = find_pictures(roots_, name);
        return fs::is_directory(root_ / name / "mask_data", ignored)
                   ? open_tracker(root_ / name, std::move(pictures))
                   : open_detections(root_ / name, std::move(pictures));
    }

private:
    static bool is_clip(const fs::path& folder) {
        std::error_code error;
        if (fs::is_directory(folder / "mask_data", error)) {
            return true;
        }
        for (fs::directory_iterator it(folder, error), end; !error && it != end;
             it.increment(error)) {
            if (it->path().extension() == ".json") {
                return true;
            }
        }
        return false;
    }

    fs::path root_;
    std::vector<fs::path> roots_;
    std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Source> open_groundingdino(const fs::path& source, const fs::path& videos) {
    return std::make_unique<GroundingDino>(source, videos);
}

}  // namespace matrix::imports
