#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "eval/report_pictures.h"
#include "eval/report_style.h"
#include "eval/report_text.h"
#include "matrix/core/files.h"
#include "matrix/core/markup.h"
#include "matrix/eval/report.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

std::string signed_decimals(double value) {
    return (value >= 0.0 ? "+" : "") + decimals(value);
}

void write_average_cells(std::ostringstream& out, const Average& a) {
    out << "<td>" << a.videos << "</td><td>" << decimals(a.kisa) << "</td><td>" << decimals(a.sgi)
        << "</td><td class=\"main\">" << decimals(a.fidelity) << "</td><td class=\"wide\">"
        << decimals(a.spi) << "</td><td class=\"wide\">" << decimals(a.raw_kisa)
        << "</td><td class=\"wide\">" << decimals(a.raw_sgi) << "</td></tr>\n";
}

void write_averages(std::ostringstream& out, const ScoreTable& table) {
    out << "<h2>Averages</h2>\n<div "
           "class=\"scroll\"><table><thead><tr><th>Model</th><th>Videos</th>"
           "<th>KISA</th><th>SGI</th><th>IF</th><th class=\"wide\">SPI</th><th class=\"wide\">KISA "
           "raw</th>"
           "<th class=\"wide\">SGI raw</th></tr></thead><tbody>\n";
    for (const ModelAverage& model : averages(table)) {
        out << "<tr class=\"model\"><th>" << escaped_markup(model.model) << "</th>";
        write_average_cells(out, model.average);
        for (const TypeAverage& type : model.types) {
            if (model.types.size() > 1) {
                out << "<tr><th class=\"type\">" << escaped_markup(type.data_type) << "</th>";
                write_average_cells(out, type.average);
            }
        }
    }
    out << "</tbody></table></div>\n";
}

void write_difference(std::ostringstream& out, const ScoreTable& table, const ScoreTable& other) {
    const char* name = other.options.variant == Variant::kPaper ? "paper's" : "published";
    std::map<std::string, Average> others;
    for (const ModelAverage& model : averages(other)) {
        others[model.model] = model.average;
    }
    out << "<details><summary>What the " << name
        << " variant would change</summary>\n<div class=\"scroll\"><table><thead><tr><th>Model</th>"
           "<th>KISA</th><th>SGI</th><th>IF</th></tr></thead><tbody>\n";
    for (const ModelAverage& model : averages(table)) {
        const Average& a = model.average;
        const Average& b = others[model.model];
        if (a.videos > 0) {
            out << "<tr><th>" << escaped_markup(model.model) << "</th><td>"
                << signed_decimals(*b.kisa - *a.kisa) << "</td><td>"
                << signed_decimals(*b.sgi - *a.sgi) << "</td><td>"
                << signed_decimals(*b.fidelity - *a.fidelity) << "</td></tr>\n";
        }
    }
    out << "</tbody></table></div></details>\n";
}

void write_list(std::ostringstream& out, const std::string& title,
                const std::vector<std::string>& lines) {
    if (!lines.empty()) {
        out << "<details open><summary>" << title << ": " << lines.size() << "</summary><ul>\n";
        for (const std::string& line : lines) {
            out << "<li>" << escaped_markup(line) << "</li>\n";
        }
        out << "</ul></details>\n";
    }
}

/// Do all models have scores for the same videos?
bool compares_equals(const ScoreTable& table) {
    std::map<std::string, std::set<std::string>> scored;
    for (const FolderScores& folder : table.folders) {
        for (const VideoScore& video : folder.videos) {
            if (video.fidelity) {
                scored[folder.model].insert(folder.data_type + "/" + video.id);
            }
        }
    }
    return std::all_of(scored.begin(), scored.end(),
                       [&](const auto& entry) { return entry.second == scored.begin()->second; });
}

void write_interaction(std::ostringstream& out, const AnsweredInteraction& interaction) {
    const auto yes =
        std::count(interaction.answers.begin(), interaction.answers.end(), Answer::kYes);
    out << "<details><summary>" << escaped_markup(interaction.text) << ": " << yes
        << " of 10 yes</summary><ol>\n";
    for (std::size_t i = 0; i < kQuestions; ++i) {
        const std::string& word = interaction.words[i];
        out << "<li class=\"" << (interaction.answers[i] == Answer::kYes ? "yes" : "no") << "\">"
            << escaped_markup(i < interaction.questions.size() ? interaction.questions[i] : "")
            << " <b>" << escaped_markup(word.empty() ? "no answer" : word) << "</b></li>\n";
    }
    out << "</ol></details>\n";
}

void write_video(std::ostringstream& out, const Layout& layout, const FolderScores& folder,
                 const VideoScore& video) {
    out << "<article><h4>" << escaped_markup(folder.model) << "</h4>"
        << pictures(layout.overlay(folder.model, folder.data_type, video.id)) << "<dl>";
    const auto pair = [&](const char* name, const std::string& value) {
        out << "<div><dt>" << name << "</dt><dd>" << value << "</dd></div>";
    };
    const auto of = [](const auto& part, auto value) {
        return part ? std::optional<double>((*part).*value) : std::nullopt;
    };
    pair("IF", decimals(of(video.fidelity, &Fidelity::fidelity)));
    pair("KISA", decimals(of(video.fidelity, &Fidelity::kisa)));
    pair("SGI", decimals(of(video.fidelity, &Fidelity::sgi)));
    pair("SPI", decimals(of(video.propagation, &Propagation::spi)));
    out << "</dl>";
    if (video.propagation) {
        out << "<p class=\"flags\">of " << video.propagation->frames
            << " frames, something emerges on " << video.propagation->emergence_count
            << " and vanishes on " << video.propagation->disappearance_count << "</p>";
    }
    for (const AnsweredInteraction& interaction : video.interactions) {
        write_interaction(out, interaction);
    }
    out << "</article>\n";
}

/// Every scenario, the models side by side.
void write_scenarios(std::ostringstream& out, const Layout& layout, const ScoreTable& table) {
    using Shown = std::pair<const FolderScores*, const VideoScore*>;
    std::map<std::string, std::map<std::string, std::vector<Shown>>> types;
    for (const FolderScores& folder : table.folders) {
        for (const VideoScore& video : folder.videos) {
            types[folder.data_type][video.id].emplace_back(&folder, &video);
        }
    }
    for (const auto& [type, scenarios] : types) {
        out << "<h2>" << escaped_markup(type) << "</h2>\n";
        for (const auto& [id, shown] : scenarios) {
            out << "<section><h3>" << escaped_markup(id) << "</h3><p class=\"prompt\">"
                << escaped_markup(shown.front().second->prompt) << "</p><div class=\"models\">\n";
            for (const auto& [folder, video] : shown) {
                write_video(out, layout, *folder, *video);
            }
            out << "</div></section>\n";
        }
    }
}

std::string settings_text(const ScoreOptions& options) {
    std::string text = options.variant == Variant::kPaper
                           ? "Paper's variant: the mean over key interactions, exact. "
                           : "Published variant: answers of a video pooled, raw scores rounded to "
                             "three decimals before SPI. ";
    text += options.skip_missing ? "Unanswered questions are left out. "
                                 : "Unanswered questions count as no. ";
    return text + (options.clamp_spi ? "SPI below 0 is taken as 0."
                                     : "SPI is not clamped: it goes down to -4.");
}

}  // namespace

std::string html_page(const Layout& layout, const ScoreTable& table, const ScoreTable& other) {
    std::ostringstream out;
    out << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
           "<title>InterGenEval</title><style>"
        << kReportStyle
        << "</style></head><body><main>\n<h1>InterGenEval</h1>\n<p class=\"settings\">"
        << "KISA: did the interaction unfold. SGI: the right actor and recipient. SPI: nothing "
           "appears from nowhere or vanishes. IF: the mean of KISA and SGI, both times SPI. "
        << settings_text(table.options) << "</p>\n";
    write_averages(out, table);
    if (!compares_equals(table)) {
        out << "<p class=\"warning\">The models are averaged over different videos: some have no "
               "score for every model. Compare them with care.</p>\n";
    }
    write_difference(out, table, other);
    std::vector<std::string> lines;
    for (const LeftOut& left : table.left_out) {
        lines.push_back(left.line());
    }
    write_list(out, "Left out", lines);
    write_list(out, "Notes", table.notes);
    write_scenarios(out, layout, table);
    out << "</main></body></html>\n";
    return out.str();
}

std::vector<fs::path> write_report(const Layout& layout, const ScoreTable& table,
                                   const ScoreTable& other, const fs::path& out) {
    const std::pair<const char*, std::string> files[] = {
        {"report.md", markdown_table(table)},
        {"report.tex", latex_table(table)},
        {"report.csv", csv_table(table)},
        {"report.html", html_page(layout, table, other)}};
    std::vector<fs::path> written;
    for (const auto& [name, content] : files) {
        write_file_atomically(out / name, content);
        written.push_back(out / name);
    }
    return written;
}

}  // namespace matrix::eval
