#include <cstdio>
#include <sstream>
#include <string_view>

#include "eval/report_text.h"
#include "matrix/core/markup.h"
#include "matrix/eval/report.h"

namespace matrix::eval {
namespace {

/// Model and data type, or "all", with what was averaged.
struct Row {
    std::string model;
    std::string data_type;
    Average average;
};

/// Every model, and below each its data types where there are several.
std::vector<Row> rows(const ScoreTable& table) {
    std::vector<Row> result;
    for (const ModelAverage& model : averages(table)) {
        result.push_back({model.model, "all", model.average});
        if (model.types.size() == 1) {
            result.back().data_type = model.types.front().data_type;
            continue;
        }
        for (const TypeAverage& type : model.types) {
            result.push_back({model.model, type.data_type, type.average});
        }
    }
    return result;
}

std::string markdown(const std::string& text) {
    std::string result;
    for (const char c : text) {
        result += std::string_view("\\|<&`*[").find(c) == std::string_view::npos
                      ? std::string(1, c)
                      : std::string{'\\', c};
    }
    return result;
}

std::string latex(const std::string& text) {
    std::string result;
    for (const char c : text) {
        if (c == '\\') {
            result += "\\textbackslash{}";
        } else if (c == '~') {
            result += "\\textasciitilde{}";
        } else if (c == '^') {
            result += "\\textasciicircum{}";
        } else {
            result += std::string_view("_&%#${}").find(c) == std::string_view::npos
                          ? std::string(1, c)
                          : std::string{'\\', c};
        }
    }
    return result;
}

void csv_line(std::ostringstream& out, const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
        out << (i == 0 ? "" : ",") << csv_cell(cells[i]);
    }
    out << "\r\n";
}

std::string exact(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", value);
    return text;
}

std::vector<std::string> csv_cells(const FolderScores& folder, const VideoScore& video) {
    std::vector<std::string> cells = {folder.model, folder.data_type, video.id};
    const auto add = [&](const auto& part, auto&&... values) {
        (cells.push_back(part ? values(*part) : ""), ...);
    };
    add(
        video.fidelity, [](const Fidelity& f) { return exact(f.kisa); },
        [](const Fidelity& f) { return exact(f.sgi); },
        [](const Fidelity& f) { return exact(f.fidelity); });
    add(
        video.propagation, [](const Propagation& p) { return exact(p.spi); },
        [](const Propagation& p) { return std::to_string(p.frames); },
        [](const Propagation& p) { return std::to_string(p.emergence_count); },
        [](const Propagation& p) { return std::to_string(p.disappearance_count); });
    add(
        video.raw, [](const RawScores& r) { return exact(r.kisa); },
        [](const RawScores& r) { return exact(r.sgi); },
        [](const RawScores& r) { return std::to_string(r.yes); },
        [](const RawScores& r) { return std::to_string(r.total); },
        [](const RawScores& r) { return std::to_string(r.missing); });
    cells.push_back(video.prompt);
    return cells;
}

}  // namespace

std::string decimals(const std::optional<double>& value) {
    if (!value) {
        return "-";
    }
    char text[32];
    std::snprintf(text, sizeof text, "%.3f", *value);
    return text;
}

std::string markdown_table(const ScoreTable& table) {
    std::ostringstream out;
    out << "| model | data type | videos | KISA | SGI | IF | SPI | KISA raw | SGI raw |\n"
           "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";
    for (const Row& row : rows(table)) {
        const Average& a = row.average;
        out << "| " << markdown(row.model) << " | " << markdown(row.data_type) << " | " << a.videos
            << " | " << decimals(a.kisa) << " | " << decimals(a.sgi) << " | "
            << decimals(a.fidelity) << " | " << decimals(a.spi) << " | " << decimals(a.raw_kisa)
            << " | " << decimals(a.raw_sgi) << " |\n";
    }
    return out.str();
}

std::string latex_table(const ScoreTable& table) {
    std::ostringstream out;
    out << "% needs \\usepackage{booktabs}\n\\begin{tabular}{llrrrrr}\n\\toprule\n"
           "Model & Data & Videos & KISA & SGI & IF & SPI \\\\\n\\midrule\n";
    for (const Row& row : rows(table)) {
        const Average& a = row.average;
        out << latex(row.model) << " & " << latex(row.data_type) << " & " << a.videos << " & "
            << decimals(a.kisa) << " & " << decimals(a.sgi) << " & " << decimals(a.fidelity)
            << " & " << decimals(a.spi) << " \\\\\n";
    }
    out << "\\bottomrule\n\\end{tabular}\n";
    return out.str();
}

std::string csv_table(const ScoreTable& table) {
    std::ostringstream out;
    csv_line(out, {"model", "data_type", "video_id", "KISA", "SGI", "IF", "SPI", "frames",
                   "emergence_count", "disappearance_count", "KISA_raw", "SGI_raw", "yes_count",
                   "total_questions", "missing_answers", "prompt"});
    for (const FolderScores& folder : table.folders) {
        for (const VideoScore& video : folder.videos) {
            csv_line(out, csv_cells(folder, video));
        }
    }
    return out.str();
}

}  // namespace matrix::eval
