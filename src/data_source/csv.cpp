#include "data_source/csv.h"

namespace matrix::data_source {
namespace {

class Parser {
public:
    Parser(std::string_view text, std::vector<std::string>& faults) : text_(text), faults_(faults) {
        if (text_.starts_with("\xEF\xBB\xBF")) {
            text_.remove_prefix(3);
        }
    }

    std::vector<CsvRecord> run() {
        std::vector<CsvRecord> records;
        while (at_ < text_.size()) {
            CsvRecord record{line_, {}};
            const bool good = read_record(record);
            const bool blank = record.cells.size() == 1 && record.cells.front().empty();
            if (good && !blank) {
                records.push_back(std::move(record));
            }
        }
        return records;
    }

private:
    [[nodiscard]] bool at_end_of_line() const {
        return at_ >= text_.size() || text_[at_] == '\n' || text_.substr(at_, 2) == "\r\n";
    }

    void skip_line() {
        while (!at_end_of_line()) {
            ++at_;
        }
        end_line();
    }

    void end_line() {
        if (at_ < text_.size()) {
            at_ += text_[at_] == '\r' ? 2 : 1;
            ++line_;
        }
    }

    bool fault(const std::string& what) {
        faults_.push_back("line " + std::to_string(line_) + ": " + what);
        return false;
    }

    bool read_record(CsvRecord& record) {
        for (;;) {
            std::string cell;
            if (!(at_ < text_.size() && text_[at_] == '"' ? read_quoted(cell) : read_bare(cell))) {
                skip_line();
                return false;
            }
            record.cells.push_back(std::move(cell));
            if (at_end_of_line()) {
                end_line();
                return true;
            }
            ++at_;  // the comma
        }
    }

    bool read_bare(std::string& cell) {
        while (!at_end_of_line() && text_[at_] != ',') {
            if (text_[at_] == '"') {
                return fault(
                    "a quote inside a cell that is not quoted; quote the cell and double the "
                    "quotes in it");
            }
            cell += text_[at_++];
        }
        return true;
    }

    bool read_quoted(std::string& cell) {
        const std::int64_t first_line = line_;
        ++at_;
        for (; at_ < text_.size(); ++at_) {
            if (text_[at_] != '"') {
                line_ += text_[at_] == '\n' ? 1 : 0;
                cell += text_[at_];
                continue;
            }
            ++at_;
            if (at_ < text_.size() && text_[at_] == '"') {
                cell += '"';
                continue;
            }
            if (at_end_of_line() || text_[at_] == ',') {
                return true;
            }
            return fault("text after a closing quote; double the quotes inside a quoted cell");
        }
        faults_.push_back("line " + std::to_string(first_line) + ": a quoted cell is never closed");
        return false;
    }

    std::string_view text_;
    std::vector<std::string>& faults_;
    std::size_t at_ = 0;
    std::int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRecord> parse_csv(std::string_view text, std::vector<std::string>& faults) {
    return Parser(text, faults).run();
}

}  // namespace matrix::data_source
