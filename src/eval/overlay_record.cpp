#include "eval/overlay_record.h"

#include <algorithm>
#include <set>

#include "eval/question_files.h"
#include "matrix/core/files.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

std::string name_size_and_time(const fs::directory_entry& file) {
    return file.path().filename().string() + " " + std::to_string(file.file_size()) + " " +
           std::to_string(file.last_write_time().time_since_epoch().count()) + "\n";
}

Json masks_in(const fs::path& track) {
    if (!fs::is_directory(track)) {
        return {};
    }
    std::set<std::string> masks;
    for (const auto& entry : fs::directory_iterator(track)) {
        if (entry.path().extension() == ".png") {
            masks.insert(name_size_and_time(entry));
        }
    }
    std::string text;
    for (const std::string& mask : masks) {
        text += mask;
    }
    return hash_text(text);
}

/// Is the video or a mask newer than the overlay, if it could be drawn anew?
bool is_older_than_sources(const fs::path& overlay, const fs::path& video, const fs::path& tracks,
                           std::size_t num_entities) {
    if (!fs::exists(overlay) || !fs::exists(video)) {
        return false;
    }
    fs::file_time_type newest = fs::last_write_time(video);
    for (std::size_t i = 0; i < num_entities; ++i) {
        const fs::path track = track_folder(tracks, i);
        if (!fs::is_directory(track)) {
            return false;
        }
        for (const auto& entry : fs::directory_iterator(track)) {
            newest = std::max(newest, entry.last_write_time());
        }
    }
    return newest > fs::last_write_time(overlay);
}

}  // namespace

fs::path overlay_record(const Layout& layout, const std::string& model, const std::string& type,
                        const std::string& id) {
    return layout.results(model, type) / "eval_metas" / (id + ".json");
}

fs::path track_folder(const fs::path& tracks, std::size_t index) {
    const std::string name = "id" + std::to_string(index + 1);
    const fs::path marked = tracks / ("<" + name + ">");
    return fs::exists(marked) ? marked : tracks / name;
}

Json sources_of(const fs::path& video, const fs::path& tracks, std::size_t num_entities) {
    Json sources = {{"video", Json()}};
    if (fs::exists(video)) {
        sources["video"] = hash_text(name_size_and_time(fs::directory_entry(video)));
    }
    for (std::size_t i = 0; i < num_entities; ++i) {
        sources["id" + std::to_string(i + 1)] = masks_in(track_folder(tracks, i));
    }
    return sources;
}

std::optional<std::string> why_outdated(const Layout& layout, const std::string& model,
                                        const std::string& type, const Scenario& scenario) {
    const fs::path path = overlay_record(layout, model, type, scenario.id);
    const fs::path video = layout.output(model, type, scenario.id);
    const fs::path tracks = layout.results(model, type) / "tracks" / scenario.id;
    const Json record = fs::exists(path) ? read_json(path) : Json();
    if (!is_of_objects(record, scenario)) {
        return "drawn for other objects than meta.json has";
    }
    if (!record.is_object() || !record.contains("drawn_from")) {
        return is_older_than_sources(layout.overlay(model, type, scenario.id), video, tracks,
                                     scenario.entities.size())
                   ? std::optional<std::string>("older than its video or one of its masks")
                   : std::nullopt;
    }
    const Json& before = record.at("drawn_from");
    const Json now = sources_of(video, tracks, scenario.entities.size());
    for (const auto& [name, source] : now.items()) {
        if (!source.is_null() && (!before.contains(name) || before.at(name) != source)) {
            return "drawn before " + (name == "video" ? "its video" : "the masks of " + name) +
                   " changed";
        }
    }
    return std::nullopt;
}

}  // namespace matrix::eval
