#pragma once

#include "matrix/data_source/metadata.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>

// What a person brings to a segmenter's masks: captions, and names of the instances.

namespace matrix::imports {

/// Rows by clip name.
class Captions {
public:
    /// A metadata file (.jsonl, .csv, .json: rows with `video` and `prompt`), or a JSON object
    /// {"NAME": "caption"}. RunError with every fault.
    static Captions read(const std::filesystem::path& file);
    /// The metadata file in `source`, if there is one.
    static Captions find(const std::filesystem::path& source);

    [[nodiscard]] bool empty() const { return file_.empty(); }
    [[nodiscard]] const std::filesystem::path& file() const { return file_; }
    /// Null if there is none.
    [[nodiscard]] const data_source::Record* of(const std::string& clip) const;
    /// Of clips that are not among `names`.
    [[nodiscard]] std::size_t count_others(const std::set<std::string>& names) const;

private:
    std::filesystem::path file_;
    std::map<std::string, data_source::Record> rows_;
};

/// Class names by clip and the source's object number.
using Labels = std::map<std::string, std::map<std::int64_t, std::string>>;

/// GroundingDINO's detections in a JSON file: InterGenEval's bbox_meta.json ([{"sample_id",
/// "objects": [{"label", "obj_id"}]}], where object obj_id + 1 is meant), Grounded-SAM-2's
/// {"image_path", "annotations": [{"class_name"}]} (objects from 1, in order; the clip is the
/// picture's folder), or {"NAME": {"1": "man"}}. RunError naming the file.
[[nodiscard]] Labels read_labels(const std::filesystem::path& file);

}  // namespace matrix::imports
