#include "cli/import/import.h"

#include <algorithm>
#include <set>

#include "cli/import/captions.h"
#include "cli/import/write_clip.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/signals.h"
#include "matrix/data_source/clip.h"
#include "matrix/data_source/doctor.h"
#include "matrix/data_source/roles.h"
#include "matrix/log/progress.h"

namespace matrix::imports {
namespace {

namespace fs = std::filesystem;
using data_source::Record;
using nlohmann::json;

constexpr std::size_t kMaxIds = 5;

std::unique_ptr<Source> open_source(const ImportOptions& options) {
    const auto open = options.format == "sam2"    ? open_sam2
                      : options.format == "davis" ? open_davis
                      : options.format == "coco"  ? open_coco
                                                  : open_groundingdino;
    return open(options.source, options.videos);
}

void check_target(const fs::path& to) {
    std::error_code error;
    if (fs::exists(to, error) && !(fs::is_directory(to, error) && fs::is_empty(to, error))) {
        throw RunError(to.string() +
                       " exists and is not an empty directory; choose another --to or remove it "
                       "first");
    }
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    for (std::size_t at = text.find(from); at != std::string::npos;
         at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
    return text;
}

/// The source's objects by the IDs they get: chosen ones in the order chosen, else their own
/// numbers where these are IDs, else 1, 2, ... in the order of their numbers.
std::map<std::int64_t, Track> give_ids(std::vector<Track> tracks,
                                       const std::vector<std::int64_t>& chosen) {
    std::map<std::int64_t, Track> by_id;
    if (!chosen.empty()) {
        for (std::size_t i = 0; i < chosen.size(); ++i) {
            const auto it = std::ranges::find(tracks, chosen[i], &Track::number);
            if (it != tracks.end()) {
                by_id.emplace(static_cast<std::int64_t>(i) + 1, std::move(*it));
            }
        }
        if (by_id.empty()) {
            throw RunError("has none of the objects of --ids");
        }
        return by_id;
    }
    if (tracks.empty()) {
        throw RunError("has no masks of any object");
    }
    if (tracks.size() > kMaxIds) {
        std::vector<std::int64_t> numbers;
        for (const Track& track : tracks) {
            numbers.push_back(track.number);
        }
        throw RunError("has " + std::to_string(tracks.size()) + " objects (" +
                       some_numbers(numbers) + "), five are the most; choose with --ids");
    }
    const bool are_ids = std::ranges::all_of(tracks, [](const Track& track) {
        return track.number >= 1 && track.number <= static_cast<std::int64_t>(kMaxIds);
    });
    for (Track& track : tracks) {
        const auto next = static_cast<std::int64_t>(by_id.size()) + 1;
        by_id.emplace(are_ids ? track.number : next, std::move(track));
    }
    return by_id;
}

/// RunError unless it is a path below the data set's folders, in its shortest form.
void check_name(const std::string& name) {
    const fs::path path(name);
    if (name.empty() || name == "." || path.is_absolute() || *path.begin() == ".." ||
        path.lexically_normal().generic_string() != name) {
        throw RunError("is no name for a clip: it leaves the data set's folder");
    }
}

class Importer {
public:
    explicit Importer(const ImportOptions& options)
        : options_(options),
          source_(open_source(options)),
          captions_(options.captions.empty() ? Captions::find(options.source)
                                             : Captions::read(options.captions)),
          labels_(options.labels.empty() ? Labels{} : read_labels(options.labels)) {}

    ImportReport run() {
        write_directory_atomically(options_.to, [&](const fs::path& root) {
            root_ = root;
            const std::vector<std::string> names = source_->names();
            log::Progress progress("clips", static_cast<std::int64_t>(names.size()));
            for (const std::string& name : names) {
                import_clip(name);
                progress.update(
                    static_cast<std::int64_t>(report_.clips.size() + report_.left_out.size()));
            }
            progress.finish();
            refuse_nothing();
            write_file_atomically(root / "metadata.jsonl",
                                  data_source::write_records("metadata.jsonl", rows_));
        });
        note_captions();
        note_ids();
        return std::move(report_);
    }

private:
    void import_clip(const std::string& name) {
        try {
            ImportedClip clip = read_clip(name);
            report_.clips.push_back(std::move(clip));
        } catch (const RunError& error) {
            for (const std::string& fault : error.faults()) {
                const std::string text = replaced(fault, root_.string(), options_.to.string());
                report_.left_out[name].push_back(name + ": " + text);
            }
        } catch (const TargetError& error) {
            throw RunError(replaced(error.what(), root_.string(), options_.to.string()));
        }
    }

    ImportedClip read_clip(const std::string& name) {
        if (const auto signal = stop_signal()) {
            throw Stopped{*signal};
        }
        check_name(name);
        const Record* caption = captions_.of(name);
        if (!captions_.empty() && caption == nullptr) {
            throw RunError("has no caption in " + captions_.file().string());
        }
        SourceClip source = source_->open(name);
        add_labels(name, source.tracks);
        const std::size_t num_tracks = source.tracks.size();
        const auto tracks = give_ids(std::move(source.tracks), options_.ids);

        ImportedClip clip;
        clip.name = name;
        clip.num_frames = source.pictures.num_frames;
        for (const auto& [id, track] : tracks) {
            clip.ids[id] = {track.number, track.label};
            numbers_.insert(track.number);
        }
        try {
            clip.video =
                write_clip(root_, name, source.pictures, tracks, options_.frames_per_second);
            Record row = row_of(clip, caption);
            check(row, clip);
            rows_.push_back(std::move(row));
        } catch (const RunError&) {
            remove_clip(root_, name, source.pictures, tracks);
            throw;
        }
        if (tracks.size() < num_tracks) {
            report_.notes.push_back(name + ": " + std::to_string(num_tracks - tracks.size()) +
                                    " of " + std::to_string(num_tracks) +
                                    " objects are not among --ids");
        }
        return clip;
    }

    void add_labels(const std::string& name, std::vector<Track>& tracks) const {
        const auto labels = labels_.find(name);
        for (Track& track : tracks) {
            if (labels != labels_.end() && labels->second.contains(track.number)) {
                track.label = labels->second.at(track.number);
            }
        }
    }

    Record row_of(ImportedClip& clip, const Record* caption) const {
        Record record{caption == nullptr ? clip.name : caption->where,
                      caption == nullptr ? json{{"prompt", ""}} : caption->row};
        record.row["video"] = clip.video;
        std::set<std::int64_t> ids;
        std::map<std::int64_t, std::string> labels;
        for (const auto& [id, instance] : clip.ids) {
            ids.insert(id);
            if (!instance.label.empty()) {
                labels[id] = instance.label;
            }
        }
        if (!labels.empty()) {
            json& named = record.row["labels"];
            if (!named.is_null() && !named.is_object()) {
                throw RunError(record.where + ": \"labels\" must be an object of names by ID");
            }
            for (const auto& [id, label] : labels) {
                named[std::to_string(id)] = label;
            }
        }
        if (options_.propose_roles) {
            clip.num_proposed = data_source::propose_into(record.row, ids, labels);
        }
        return record;
    }

    /// What is written must be a data set that `check data` finds sound.
    void check(const Record& record, const ImportedClip& clip) const {
        const fs::path file = root_ / "metadata.jsonl";
        write_file_atomically(file, data_source::write_records(file, {record}));
        try {
            data_source::Row row = data_source::read_manifest(root_).rows.at(0);
            row.where = record.where;
            data_cache::DataConfig config;
            config.frames = clip.num_frames;
            data_source::DatasetReport found;
            data_source::check_row(row, config, nullptr, data_source::Depth::kHeaders, found);
            if (!found.faults.empty()) {
                throw RunError(found.faults);
            }
        } catch (const RunError& error) {
            std::vector<std::string> faults = error.faults();
            for (std::string& fault : faults) {
                fault = replaced(fault, file.string() + " line 1 (row 0)", record.where);
            }
            throw RunError(faults);
        }
    }

    void refuse_nothing() const {
        if (!report_.clips.empty()) {
            return;
        }
        std::vector<std::string> faults;
        for (const auto& [name, lines] : report_.left_out) {
            faults.insert(faults.end(), lines.begin(), lines.end());
        }
        throw RunError(faults);
    }

    void note_captions() {
        std::set<std::string> names;
        for (const std::string& name : source_->names()) {
            names.insert(name);
        }
        if (captions_.empty()) {
            report_.notes.push_back(
                "there were no captions: fill \"prompt\" in metadata.jsonl, or import with "
                "--captions");
        } else if (const std::size_t others = captions_.count_others(names); others > 0) {
            report_.notes.push_back(captions_.file().string() + ": " + std::to_string(others) +
                                    " captions are of clips that the source does not have");
        }
    }

    void note_ids() {
        for (const std::int64_t number : options_.ids) {
            if (!numbers_.contains(number)) {
                report_.notes.push_back("--ids: no clip has an object " + std::to_string(number));
            }
        }
    }

    const ImportOptions& options_;
    std::unique_ptr<Source> source_;
    Captions captions_;
    Labels labels_;
    fs::path root_;
    ImportReport report_;
    std::vector<Record> rows_;
    std::set<std::int64_t> numbers_;  ///< of the objects that became an ID
};

}  // namespace

ImportReport import_dataset(const ImportOptions& options) {
    check_target(options.to);
    std::error_code ignored;
    if (!fs::exists(options.source, ignored)) {
        throw RunError(options.source.string() + ": missing");
    }
    return Importer(options).run();
}

RoleReport propose_roles(const fs::path& data) {
    const data_source::Manifest manifest = data_source::read_manifest(data);
    std::vector<std::string> faults;
    std::vector<Record> records = data_source::read_records(manifest.file, faults);
    RoleReport report;
    report.num_clips = records.size();
    for (std::size_t i = 0; i < records.size(); ++i) {
        if (!manifest.rows[i].interactions.empty()) {
            ++report.num_kept;
            continue;
        }
        std::set<std::int64_t> ids;
        for (const auto& folder : data_source::find_id_folders(manifest.rows[i])) {
            ids.insert(folder.id);
        }
        std::map<std::int64_t, std::string> labels;
        for (const std::int64_t id : ids) {
            const auto named = records[i].row.find("labels");
            const std::string key = std::to_string(id);
            if (named != records[i].row.end() && named->is_object() && named->contains(key) &&
                (*named)[key].is_string()) {
                labels[id] = (*named)[key].get<std::string>();
            }
        }
        const std::size_t proposed = data_source::propose_into(records[i].row, ids, labels);
        report.num_filled += proposed > 0 ? 1 : 0;
        report.num_proposed += proposed;
    }
    if (report.num_filled > 0) {
        write_file_atomically(manifest.file, data_source::write_records(manifest.file, records));
    }
    return report;
}

}  // namespace matrix::imports
