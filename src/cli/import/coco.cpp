#include <algorithm>
#include <set>

#include "cli/import/json_help.h"
#include "cli/import/segmentation.h"
#include "cli/import/source.h"
#include "matrix/core/error.h"

// COCO's JSON: YouTube-VIS (`videos`, and an annotation for each instance with one segmentation a
// frame), or images with an annotation for each instance and frame that carries a track_id.

namespace matrix::imports {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// One clip of the file: references into the JSON by frame and instance.
struct Entry {
    std::vector<std::string> file_names;
    std::int64_t height_px = 0, width_px = 0;
    struct Instance {
        std::string label;
        std::string where;                                 ///< "annotation 17"
        std::map<std::size_t, const json*> segmentations;  ///< by frame; the others are empty
    };
    std::map<std::int64_t, Instance> instances;
    std::vector<std::string> faults;
};

/// "./a/0.png" and "a/0.png" lie in one folder.
std::string folder_of(const std::string& file_name) {
    const std::string folder =
        fs::path(file_name).parent_path().lexically_normal().generic_string();
    return folder == "." ? "" : folder;
}

class Coco final : public Source {
public:
    Coco(const fs::path& source, const fs::path& videos) : file_(source) {
        std::error_code ignored;
        if (fs::is_directory(file_, ignored)) {
            file_ = the_json_in(file_);
        }
        roots_ =
            videos.empty() ? picture_roots(file_.parent_path(), {}) : std::vector<fs::path>{videos};
        if (videos.empty()) {
            roots_.push_back(file_.parent_path());
        }
        json_ = read_json_file(file_);
        if (!json_.is_object() || !json_.contains("annotations") ||
            !json_["annotations"].is_array()) {
            throw RunError(file_.string() +
                           ": must be an object with \"annotations\" and \"videos\" or \"images\"");
        }
        for (const json& category : list("categories")) {
            if (const auto id = integer_at(category, "id")) {
                labels_[*id] = text_at(category, "name").value_or("");
            }
        }
        const bool has_frames = std::ranges::any_of(
            list("videos"), [](const json& video) { return video.contains("file_names"); });
        if (has_frames) {
            read_videos();
        } else {
            read_images();
        }
        if (entries_.empty()) {
            throw RunError(file_.string() + ": has neither \"videos\" nor \"images\" with names");
        }
    }

    [[nodiscard]] std::vector<std::string> names() const override {
        std::vector<std::string> names;
        for (const auto& [name, entry] : entries_) {
            names.push_back(name);
        }
        return names;
    }

    [[nodiscard]] SourceClip open(const std::string& name) const override {
        const Entry& entry = entries_.at(name);
        if (!entry.faults.empty()) {
            throw RunError(entry.faults);
        }
        SourceClip clip;
        clip.pictures = pictures(name, entry);
        for (const auto& [number, instance] : entry.instances) {
            clip.tracks.push_back(
                {number, instance.label, [this, &entry, &instance](std::int64_t f) {
                     return mask(entry, instance, static_cast<std::size_t>(f));
                 }});
        }
        return clip;
    }

private:
    static fs::path the_json_in(const fs::path& folder) {
        std::vector<fs::path> found;
        for (const auto& item : fs::directory_iterator(folder)) {
            if (item.path().extension() == ".json") {
                found.push_back(item.path());
            }
        }
        if (found.size() != 1) {
            throw RunError(folder.string() + ": holds " + std::to_string(found.size()) +
                           " JSON files; name the one with the annotations");
        }
        return found[0];
    }

    [[nodiscard]] const json& list(const char* key) const {
        static const json kNone = json::array();
        const auto it = json_.find(key);
        return it != json_.end() && it->is_array() ? *it : kNone;
    }

    [[nodiscard]] std::string at(const char* key, std::size_t i) const {
        return file_.string() + ": " + key + "[" + std::to_string(i) + "]";
    }

    void add_size(Entry& entry, const json& object, const std::string& where) {
        const auto height = integer_at(object, "height"), width = integer_at(object, "width");
        if (!height || !width) {
            entry.faults.push_back(where + " must have \"height\" and \"width\"");
            return;
        }
        entry.height_px = *height;
        entry.width_px = *width;
    }

    std::string label_of(const json& annotation) const {
        const auto it = labels_.find(integer_at(annotation, "category_id").value_or(-1));
        return it == labels_.end() ? "" : it->second;
    }

    void read_videos() {
        std::map<std::int64_t, std::string> names;
        const json& videos = list("videos");
        for (std::size_t i = 0; i < videos.size(); ++i) {
            const auto id = integer_at(videos[i], "id");
            const auto files = videos[i].find("file_names");
            const bool good = id && files != videos[i].end() && files->is_array() &&
                              !files->empty() && std::ranges::all_of(*files, &json::is_string);
            if (!good) {
                throw RunError(at("videos", i) + " must have \"id\" and a list \"file_names\"");
            }
            const std::string name = folder_of((*files)[0].get<std::string>());
            const std::string clip = name.empty() ? std::to_string(*id) : name;
            const auto [of_id, is_new] = names.emplace(*id, clip);
            if (!is_new) {
                add_twin(at("videos", i) + ".id is that of another video", of_id->second, clip);
            }
            Entry& entry = entries_[clip];
            if (!entry.file_names.empty()) {
                add_twin(at("videos", i) + " is a second video of the same folder", clip, clip);
            }
            entry.file_names = files->get<std::vector<std::string>>();
            add_size(entry, videos[i], at("videos", i));
        }
        const json& annotations = json_["annotations"];
        for (std::size_t i = 0; i < annotations.size(); ++i) {
            const auto it = names.find(integer_at(annotations[i], "video_id").value_or(-1));
            if (it == names.end()) {
                throw RunError(at("annotations", i) + ".video_id is the \"id\" of no video");
            }
            add_instance(entries_[it->second], annotations[i], i);
        }
    }

    void add_instance(Entry& entry, const json& annotation, std::size_t i) {
        const auto segmentations = annotation.find("segmentations");
        if (segmentations == annotation.end() || !segmentations->is_array() ||
            segmentations->size() != entry.file_names.size()) {
            entry.faults.push_back(at("annotations", i) +
                                   ".segmentations must have one entry for "
                                   "each of the " +
                                   std::to_string(entry.file_names.size()) +
                                   " frames (null: not in sight)");
            return;
        }
        const auto number = static_cast<std::int64_t>(entry.instances.size()) + 1;
        Entry::Instance& instance = entry.instances[number];
        instance.label = label_of(annotation);
        instance.where = at("annotations", i) + ".segmentations";
        for (std::size_t frame = 0; frame < segmentations->size(); ++frame) {
            instance.segmentations[frame] = &(*segmentations)[frame];
        }
    }

    /// What belongs to which of two clips cannot be told: both are at fault.
    void add_twin(const std::string& fault, const std::string& a, const std::string& b) {
        for (const std::string& clip : std::set<std::string>{a, b}) {
            entries_[clip].faults.push_back(fault);
        }
    }

    struct Place {
        std::string clip;
        std::size_t frame = 0;
    };

    /// Images in the order of their names' numbers, those of one folder a clip.
    std::map<std::int64_t, Place> place_images() {
        struct Image {
            std::string file_name;
            std::int64_t id = 0;
        };
        std::map<std::string, std::vector<Image>> clips;
        const json& images = list("images");
        for (std::size_t i = 0; i < images.size(); ++i) {
            const auto id = integer_at(images[i], "id");
            const auto file_name = text_at(images[i], "file_name");
            if (!id || !file_name) {
                throw RunError(at("images", i) + " must have \"id\" and \"file_name\"");
            }
            const std::string folder = folder_of(*file_name);
            const std::string clip = folder.empty() ? file_.stem().string() : folder;
            clips[clip].push_back({*file_name, *id});
            if (entries_[clip].height_px == 0) {
                add_size(entries_[clip], images[i], at("images", i));
            }
        }
        std::map<std::int64_t, Place> places;
        for (auto& [clip, frames] : clips) {
            std::ranges::sort(frames, [](const Image& a, const Image& b) {  // 9.jpg before 10.jpg
                return std::pair(a.file_name.size(), a.file_name) <
                       std::pair(b.file_name.size(), b.file_name);
            });
            for (const Image& image : frames) {
                const auto [place, is_new] =
                    places.emplace(image.id, Place{clip, entries_[clip].file_names.size()});
                if (!is_new) {
                    add_twin(file_.string() + ": images: \"" + image.file_name +
                                 "\" has the id of another image",
                             place->second.clip, clip);
                }
                entries_[clip].file_names.push_back(image.file_name);
            }
        }
        return places;
    }

    void read_images() {
        const std::map<std::int64_t, Place> places = place_images();
        const json& annotations = json_["annotations"];
        for (std::size_t i = 0; i < annotations.size(); ++i) {
            const json& annotation = annotations[i];
            const auto place = places.find(integer_at(annotation, "image_id").value_or(-1));
            if (place == places.end()) {
                throw RunError(at("annotations", i) + ".image_id is the \"id\" of no image");
            }
            Entry& entry = entries_[place->second.clip];
            auto track = integer_at(annotation, "track_id");
            track = track ? track : integer_at(annotation, "instance_id");
            if (!track && annotation.contains("attributes")) {
                track = integer_at(annotation["attributes"], "track_id");
            }
            if (!track || !annotation.contains("segmentation")) {
                entry.faults.push_back(
                    at("annotations", i) +
                    (track ? " has no \"segmentation\""
                           : " has no \"track_id\" (or \"instance_id\") that tells which masks of "
                             "a clip are one instance"));
                continue;
            }
            Entry::Instance& instance = entry.instances[*track];
            instance.label = label_of(annotation);
            instance.where = file_.string() + ": track " + std::to_string(*track);
            const bool is_first =
                instance.segmentations.emplace(place->second.frame, &annotation["segmentation"])
                    .second;
            if (!is_first) {
                entry.faults.push_back(at("annotations", i) + " is a second mask of track " +
                                       std::to_string(*track) + " in one image");
            }
        }
    }

    [[nodiscard]] Pictures pictures(const std::string& name, const Entry& entry) const {
        for (const fs::path& root : roots_) {
            std::vector<fs::path> frames;
            for (const std::string& file : entry.file_names) {
                frames.push_back(root / file);
            }
            std::error_code ignored;
            if (fs::is_regular_file(frames[0], ignored)) {
                return pictures_of(std::move(frames));
            }
        }
        Pictures video = find_pictures(roots_, name);
        if (video.num_frames != static_cast<std::int64_t>(entry.file_names.size())) {
            throw RunError(video.video.string() + ": has " + std::to_string(video.num_frames) +
                           " frames, " + file_.filename().string() + " names " +
                           std::to_string(entry.file_names.size()));
        }
        return video;
    }

    [[nodiscard]] Mask mask(const Entry& entry, const Entry::Instance& instance,
                            std::size_t frame) const {
        const auto it = instance.segmentations.find(frame);
        static const json kNotInSight;
        try {
            return read_segmentation(it == instance.segmentations.end() ? kNotInSight : *it->second,
                                     entry.height_px, entry.width_px);
        } catch (const RunError& error) {
            throw RunError(instance.where + ", frame " + std::to_string(frame) + ": " +
                           error.what());
        }
    }

    fs::path file_;
    std::vector<fs::path> roots_;
    json json_;
    std::map<std::int64_t, std::string> labels_;
    std::map<std::string, Entry> entries_;
};

}  // namespace

std::unique_ptr<Source> open_coco(const fs::path& source, const fs::path& videos) {
    return std::make_unique<Coco>(source, videos);
}

}  // namespace matrix::imports
