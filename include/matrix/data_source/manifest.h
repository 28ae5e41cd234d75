#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace matrix::data_source {

/// Words of the prompt, and for a subject or object the instance they name.
struct Phrase {
    std::string text;
    std::optional<std::int64_t>
        start;            ///< code points into the prompt, tells two occurrences apart
    std::int64_t id = 0;  ///< 1..5; 0 for a verb
};

struct Interaction {
    Phrase subject;
    Phrase verb;
    std::optional<Phrase> object;  ///< none: an intransitive verb
    bool proposed = false;         ///< found by rule, and no person has looked at it
};

/// One row of the metadata file.
struct Row {
    std::string where;  ///< "data/metadata.jsonl line 3 (row 2)", for messages; rows count from 0
    std::string video;  ///< relative to the data set's folder, normalised: "videos/a.mp4"
    std::string mask_root;  ///< the same: "mask_annotation/a"
    std::filesystem::path video_path;
    std::filesystem::path mask_path;
    std::string prompt;
    std::vector<Interaction> interactions;
};

struct Manifest {
    std::filesystem::path file;
    std::vector<Row> rows;
};

/// Reads metadata.jsonl, metadata.json or metadata.csv of the data set at `data`. A video is looked
/// for below videos/, then below `data` itself; whether it exists is not a question of the
/// manifest. RunError with every fault at once, each naming file and row: no metadata file or
/// several, malformed text, a missing or wrong `video`, `prompt` or `interactions`, unknown keys,
/// IDs outside 1..5, a path that leaves the folder, a video named twice.
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& data);

}  // namespace matrix::data_source
