#include "matrix/data_source/manifest.h"

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/data_source/interactions.h"
#include "matrix/data_source/metadata.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <utility>

namespace matrix::data_source {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::vector<std::string> kColumns = {"video", "prompt", "interactions"};

class ManifestReader {
public:
    explicit ManifestReader(fs::path data) : data_(std::move(data)) {}

    Manifest read() {
        Manifest manifest;
        manifest.file = find_metadata(data_);
        const std::vector<Record> records = read_records(manifest.file, faults_);
        for (const Record& record : records) {
            read_row(record, manifest);
        }
        if (records.empty() && faults_.empty()) {
            faults_.push_back(manifest.file.string() + ": has no rows");
        }
        if (!faults_.empty()) {
            throw RunError(faults_);
        }
        return manifest;
    }

private:
    void read_row(const Record& record, Manifest& manifest) {
        const auto fault = [&](const std::string& text) {
            faults_.push_back(record.where + ": " + text);
        };
        if (!record.row.is_object()) {
            fault("must be an object with \"video\" and \"prompt\"");
            return;
        }
        Row row;
        row.where = record.where;
        check_columns(record);
        for (const auto& [name, target] :
             {std::pair{"video", &row.video}, {"prompt", &row.prompt}}) {
            const auto it = record.row.find(name);
            if (it == record.row.end()) {
                fault(std::string(name) + ": missing");
            } else if (!it->is_string()) {
                fault(std::string(name) + ": must be text");
            } else {
                *target = it->get<std::string>();
            }
        }
        if (const auto it = record.row.find("interactions"); it != record.row.end()) {
            std::vector<std::string> faults;
            row.interactions = read_interactions(*it, faults);
            std::ranges::for_each(faults, fault);
        }
        if (record.row.contains("video") && record.row["video"].is_string()) {
            resolve_video(row);
        }
        manifest.rows.push_back(std::move(row));
    }

    // Other columns belong to other programs, but a misspelt one of ours would silently train
    // without alignment.
    void check_columns(const Record& record) {
        for (const auto& [key, value] : record.row.items()) {
            if (std::ranges::find(kColumns, key) != kColumns.end()) {
                continue;
            }
            const auto near = did_you_mean(key, kColumns);
            if (near && !record.row.contains(*near)) {
                faults_.push_back(record.where + ": unknown key \"" + key + "\"; did you mean \"" +
                                  *near + "\"?");
            }
        }
    }

    void resolve_video(Row& row) {
        const fs::path named(row.video);
        if (row.video.empty() || named.is_absolute() ||
            std::ranges::find(named, fs::path("..")) != named.end() ||
            row.video.find('\0') != std::string::npos) {
            faults_.push_back(row.where + ": video \"" + row.video + "\" must be a path below " +
                              data_.string() + ", without \"..\"");
            return;
        }
        std::error_code ignored;
        fs::path relative = (fs::path("videos") / named).lexically_normal();
        if (!fs::exists(data_ / relative, ignored) && fs::exists(data_ / named, ignored)) {
            relative = named.lexically_normal();
        }
        fs::path stem = relative;
        if (stem.begin() != stem.end() && *stem.begin() == "videos") {
            stem = stem.lexically_relative("videos");
        }
        stem.replace_extension();
        row.video = relative.generic_string();
        row.mask_root = (fs::path("mask_annotation") / stem).generic_string();
        row.video_path = data_ / relative;
        row.mask_path = data_ / row.mask_root;
        const auto [first, is_first] = videos_.emplace(row.video, row.where);
        if (!is_first) {
            faults_.push_back(row.where + ": names " + row.video + " again, after " +
                              first->second);
        }
    }

    fs::path data_;
    std::vector<std::string> faults_;
    std::map<std::string, std::string> videos_;
};

}  // namespace

Manifest read_manifest(const fs::path& data) {
    return ManifestReader(data).read();
}

}  // namespace matrix::data_source
