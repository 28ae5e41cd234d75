#include "matrix/data_source/manifest.h"

#include "data_source/csv.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/data_source/interactions.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <utility>

namespace matrix::data_source {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxMetadataBytes = std::size_t{1} << 30;
const std::vector<std::string> kColumns = {"video", "prompt", "interactions"};

// One row as JSON, whichever the file's kind.
struct Record {
    std::string where;
    json row;
};

class ManifestReader {
public:
    explicit ManifestReader(fs::path data) : data_(std::move(data)) {}

    Manifest read() {
        Manifest manifest;
        manifest.file = find_file();
        const std::string text = read_text_file(manifest.file, kMaxMetadataBytes);
        const fs::path extension = manifest.file.extension();
        const auto records = extension == ".csv"     ? read_csv(manifest.file, text)
                             : extension == ".jsonl" ? read_jsonl(manifest.file, text)
                                                     : read_json(manifest.file, text);
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
    [[nodiscard]] fs::path find_file() const {
        std::vector<fs::path> found;
        std::error_code ignored;
        for (const char* name : {"metadata.jsonl", "metadata.json", "metadata.csv"}) {
            if (fs::exists(data_ / name, ignored)) {
                found.push_back(data_ / name);
            }
        }
        if (found.empty()) {
            throw RunError(data_.string() +
                           ": there is no metadata.jsonl, metadata.json or metadata.csv");
        }
        if (found.size() > 1) {
            throw RunError(data_.string() + ": both " + found[0].filename().string() + " and " +
                           found[1].filename().string() + " are there; keep one");
        }
        return found.front();
    }

    std::vector<Record> read_jsonl(const fs::path& file, const std::string& text) {
        std::vector<Record> records;
        std::size_t begin = 0;
        for (int line = 1; begin < text.size(); ++line) {
            const std::size_t end = std::min(text.find('\n', begin), text.size());
            const std::string_view content = std::string_view(text).substr(begin, end - begin);
            begin = end + 1;
            if (content.find_first_not_of(" \t\r") == std::string_view::npos) {
                continue;
            }
            std::string where = file.string() + " line " + std::to_string(line) + " (row " +
                                std::to_string(num_rows_++) + ")";
            parse_into(records, content, std::move(where));
        }
        return records;
    }

    std::vector<Record> read_json(const fs::path& file, const std::string& text) {
        std::vector<Record> records;
        json rows = parse_json(text, file.string());
        if (!rows.is_array()) {
            throw RunError(file.string() +
                           ": must be a list of rows {\"video\", \"prompt\", \"interactions\"}");
        }
        for (json& row : rows) {
            records.push_back(
                {file.string() + " row " + std::to_string(num_rows_++), std::move(row)});
        }
        return records;
    }

    std::vector<Record> read_csv(const fs::path& file, const std::string& text) {
        try {
            (void)json(text).dump();  // throws for what is not UTF-8; parsing checks that in the
                                      // other two kinds
        } catch (const json::exception&) {
            throw RunError(file.string() + ": is not UTF-8; save it in that encoding");
        }
        std::vector<std::string> faults;
        const auto lines = parse_csv(text, faults);
        for (const std::string& fault : faults) {
            faults_.push_back(file.string() + " " + fault);
        }
        std::vector<Record> records;
        if (lines.empty()) {
            return records;
        }
        const auto& header = lines.front().cells;
        for (const char* column : {"video", "prompt"}) {
            if (std::ranges::count(header, column) != 1) {
                faults_.push_back(file.string() + ": needs one column \"" + column +
                                  "\" in its first line");
            }
        }
        if (std::ranges::count(header, "interactions") > 1) {
            faults_.push_back(file.string() + ": has two columns \"interactions\"");
        }
        if (!faults_.empty()) {
            return records;
        }
        for (std::size_t i = 1; i < lines.size(); ++i) {
            std::string where = file.string() + " line " + std::to_string(lines[i].line) +
                                " (row " + std::to_string(num_rows_++) + ")";
            if (lines[i].cells.size() != header.size()) {
                faults_.push_back(where + ": has " + std::to_string(lines[i].cells.size()) +
                                  " cells, the first line has " + std::to_string(header.size()));
                continue;
            }
            read_csv_row(header, lines[i].cells, std::move(where), records);
        }
        return records;
    }

    void read_csv_row(const std::vector<std::string>& header, const std::vector<std::string>& cells,
                      std::string where, std::vector<Record>& records) {
        Record record{std::move(where), json::object()};
        for (std::size_t i = 0; i < header.size(); ++i) {
            if (header[i] != "interactions") {
                record.row[header[i]] = cells[i];
            } else if (cells[i].find_first_not_of(" \t\r\n") != std::string::npos) {
                try {
                    record.row["interactions"] =
                        parse_json(cells[i], record.where + ": interactions");
                } catch (const RunError& e) {
                    faults_.emplace_back(e.what());
                    return;
                }
            }
        }
        records.push_back(std::move(record));
    }

    void parse_into(std::vector<Record>& records, std::string_view text, std::string where) {
        try {
            json row = parse_json(text, where);
            records.push_back({std::move(where), std::move(row)});
        } catch (const RunError& e) {
            faults_.emplace_back(e.what());
        }
    }

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
    std::int64_t num_rows_ = 0;
};

}  // namespace

Manifest read_manifest(const fs::path& data) {
    return ManifestReader(data).read();
}

}  // namespace matrix::data_source
