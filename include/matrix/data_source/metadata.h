#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <vector>

// A metadata file as rows of JSON, whichever its kind. What the rows mean is the manifest's.

namespace matrix::data_source {

struct Record {
    std::string where;  ///< "data/metadata.jsonl line 3 (row 2)", for messages; rows count from 0
    nlohmann::json row;
};

/// The metadata.jsonl, metadata.json or metadata.csv in a folder; RunError if there is none or more
/// than one.
[[nodiscard]] std::filesystem::path find_metadata(const std::filesystem::path& data);

/// The rows of a .jsonl, .csv (with the columns `video` and `prompt`; `interactions` is parsed) or
/// other JSON file (a list). Faults are appended, a faulty row is left out. RunError where the file
/// as a whole cannot be read.
[[nodiscard]] std::vector<Record> read_records(const std::filesystem::path& file,
                                               std::vector<std::string>& faults);

/// The text of a file of `file`'s kind with these rows: `video`, `prompt` and `interactions` first,
/// then their other columns.
[[nodiscard]] std::string write_records(const std::filesystem::path& file,
                                        const std::vector<Record>& records);

}  // namespace matrix::data_source
