#include "cli/import/captions.h"

#include <algorithm>
#include <charconv>

#include "cli/import/json_help.h"
#include "matrix/core/error.h"

namespace matrix::imports {
namespace {

namespace fs = std::filesystem;
using data_source::Record;
using nlohmann::json;

/// "videos/a.b.mp4" and "a.b" are one clip.
std::string clip_name(const std::string& video) {
    fs::path path = fs::path(video).lexically_normal();
    if (!path.empty() && *path.begin() == "videos") {
        path = path.lexically_relative("videos");
    }
    for (const char* extension : {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}) {
        if (path.extension() == extension) {
            path.replace_extension();
        }
    }
    return path.generic_string();
}

std::vector<Record> read_rows(const fs::path& file, std::vector<std::string>& faults) {
    if (file.extension() == ".json") {
        const json captions = read_json_file(file);
        if (captions.is_object()) {
            std::vector<Record> rows;
            for (const auto& [name, caption] : captions.items()) {
                rows.push_back(
                    {file.string() + " \"" + name + "\"", {{"video", name}, {"prompt", caption}}});
            }
            return rows;
        }
    }
    return data_source::read_records(file, faults);
}

/// "3", 3 and "003" are sample 003.
std::string sample_name(const json& sample) {
    std::string name = sample.is_string() ? sample.get<std::string>() : sample.dump();
    const bool digits = std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
    return digits && name.size() < 3 ? std::string(3 - name.size(), '0') + name : name;
}

void read_boxes(const json& samples, const fs::path& file, Labels& labels) {
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const json& sample = samples[i];
        const bool good = sample.is_object() && sample.contains("sample_id") &&
                          sample.contains("objects") && sample["objects"].is_array();
        if (!good) {
            throw RunError(file.string() + ": [" + std::to_string(i) +
                           "] must have \"sample_id\" and a list \"objects\"");
        }
        auto& names = labels[sample_name(sample["sample_id"])];
        for (const json& object : sample["objects"]) {
            const auto id = integer_at(object, "obj_id");
            const auto label = text_at(object, "label");
            if (!id || !label) {
                throw RunError(file.string() + ": [" + std::to_string(i) +
                               "].objects must have \"obj_id\" and \"label\"");
            }
            names[*id + 1] = *label;
        }
    }
}

void read_detections(const json& found, const fs::path& file, Labels& labels) {
    const fs::path image = text_at(found, "image_path").value_or("");
    const std::string clip =
        image.has_parent_path() ? image.parent_path().filename().string() : file.stem().string();
    for (const json& annotation : found["annotations"]) {
        const auto name = text_at(annotation, "class_name");
        if (!name) {
            throw RunError(file.string() + ": annotations must have \"class_name\"");
        }
        auto& names = labels[clip];
        names[static_cast<std::int64_t>(names.size()) + 1] = *name;
    }
}

void read_map(const json& clips, const fs::path& file, Labels& labels) {
    for (const auto& [clip, names] : clips.items()) {
        for (const auto& [key, name] : names.items()) {
            std::int64_t number = 0;
            const auto end = std::from_chars(key.data(), key.data() + key.size(), number).ptr;
            if (!names.is_object() || end != key.data() + key.size() || !name.is_string()) {
                throw RunError(file.string() + ": \"" + clip +
                               "\" must be an object such as {\"1\": \"man\", \"2\": \"box\"}");
            }
            labels[clip][number] = name.get<std::string>();
        }
    }
}

}  // namespace

Captions Captions::read(const fs::path& file) {
    Captions captions;
    captions.file_ = file;
    std::vector<std::string> faults;
    for (Record& record : read_rows(file, faults)) {
        const auto video = text_at(record.row, "video");
        if (!video || !text_at(record.row, "prompt")) {
            faults.push_back(record.where + ": must have the texts \"video\" and \"prompt\"");
            continue;
        }
        const std::string where = record.where;
        const auto [row, is_first] = captions.rows_.emplace(clip_name(*video), std::move(record));
        if (!is_first) {
            faults.push_back(where + ": names \"" + *video + "\" again, after " +
                             row->second.where);
        }
    }
    if (!faults.empty()) {
        throw RunError(faults);
    }
    return captions;
}

Captions Captions::find(const fs::path& source) {
    for (const char* name : {"metadata.jsonl", "metadata.json", "metadata.csv"}) {
        std::error_code ignored;
        if (fs::exists(source / name, ignored)) {
            return read(data_source::find_metadata(source));
        }
    }
    return {};
}

const Record* Captions::of(const std::string& clip) const {
    const auto it = rows_.find(clip);
    return it == rows_.end() ? nullptr : &it->second;
}

std::size_t Captions::count_others(const std::set<std::string>& names) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(rows_, [&](const auto& row) { return !names.contains(row.first); }));
}

Labels read_labels(const fs::path& file) {
    const json found = read_json_file(file);
    Labels labels;
    if (found.is_array()) {
        read_boxes(found, file, labels);
    } else if (found.is_object() && found.contains("annotations") &&
               found["annotations"].is_array()) {
        read_detections(found, file, labels);
    } else if (found.is_object()) {
        read_map(found, file, labels);
    } else {
        throw RunError(file.string() +
                       ": must be GroundingDINO's detections, or {\"NAME\": {\"1\": \"man\"}}");
    }
    return labels;
}

}  // namespace matrix::imports
