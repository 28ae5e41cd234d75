#include "matrix/data_source/metadata.h"

#include "data_source/csv.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/core/markup.h"

#include <algorithm>
#include <utility>

namespace matrix::data_source {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxMetadataBytes = std::size_t{1} << 30;
const std::vector<std::string> kFirstColumns = {"video", "prompt", "interactions"};

class RecordReader {
public:
    RecordReader(const fs::path& file, std::vector<std::string>& faults)
        : file_(file), faults_(faults) {}

    std::vector<Record> read() {
        const std::string text = read_text_file(file_, kMaxMetadataBytes);
        const fs::path extension = file_.extension();
        return extension == ".csv"     ? read_csv(file_, text)
               : extension == ".jsonl" ? read_jsonl(file_, text)
                                       : read_json(file_, text);
    }

private:
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

    const fs::path& file_;
    std::vector<std::string>& faults_;
    std::int64_t num_rows_ = 0;
};

std::vector<std::string> columns_of(const std::vector<Record>& records) {
    std::vector<std::string> columns;
    for (const std::string& column : kFirstColumns) {
        if (std::ranges::any_of(records, [&](const Record& r) { return r.row.contains(column); })) {
            columns.push_back(column);
        }
    }
    for (const Record& record : records) {
        for (const auto& [key, value] : record.row.items()) {
            if (std::ranges::find(columns, key) == columns.end()) {
                columns.push_back(key);
            }
        }
    }
    return columns;
}

std::string write_csv(const std::vector<Record>& records) {
    const std::vector<std::string> columns = columns_of(records);
    std::string text;
    for (const std::string& column : columns) {
        text += (text.empty() ? "" : ",") + csv_cell(column);
    }
    text += '\n';
    for (const Record& record : records) {
        for (std::size_t i = 0; i < columns.size(); ++i) {
            const auto it = record.row.find(columns[i]);
            const std::string cell = it == record.row.end() ? ""
                                     : it->is_string()      ? it->get<std::string>()
                                                            : it->dump();
            text += (i == 0 ? "" : ",") + csv_cell(cell);
        }
        text += '\n';
    }
    return text;
}

nlohmann::ordered_json in_order(const json& row) {
    nlohmann::ordered_json out = nlohmann::ordered_json::object();
    for (const std::string& column : kFirstColumns) {
        if (row.contains(column)) {
            out[column] = row[column];
        }
    }
    for (const auto& [key, value] : row.items()) {
        out[key] = value;  // those that are there keep their place
    }
    return out;
}

}  // namespace

fs::path find_metadata(const fs::path& data) {
    std::vector<fs::path> found;
    std::error_code ignored;
    for (const char* name : {"metadata.jsonl", "metadata.json", "metadata.csv"}) {
        if (fs::exists(data / name, ignored)) {
            found.push_back(data / name);
        }
    }
    if (found.empty()) {
        throw RunError(data.string() +
                       ": there is no metadata.jsonl, metadata.json or metadata.csv");
    }
    if (found.size() > 1) {
        throw RunError(data.string() + ": both " + found[0].filename().string() + " and " +
                       found[1].filename().string() + " are there; keep one");
    }
    return found.front();
}

std::vector<Record> read_records(const fs::path& file, std::vector<std::string>& faults) {
    return RecordReader(file, faults).read();
}

std::string write_records(const fs::path& file, const std::vector<Record>& records) {
    if (file.extension() == ".csv") {
        return write_csv(records);
    }
    const bool lines = file.extension() == ".jsonl";
    std::string text = lines ? "" : "[\n";
    for (std::size_t i = 0; i < records.size(); ++i) {
        text += in_order(records[i].row).dump();
        text += lines || i + 1 == records.size() ? "\n" : ",\n";
    }
    return text + (lines ? "" : "]\n");
}

}  // namespace matrix::data_source
