#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "matrix/eval/score_table.h"

namespace matrix::eval {

/// Averages by model and data type, best IF first.
[[nodiscard]] std::string markdown_table(const ScoreTable& table);
/// The same for LaTeX with booktabs.
[[nodiscard]] std::string latex_table(const ScoreTable& table);
/// One line a video (RFC 4180), with all its scores and counts; empty cells where there are none.
[[nodiscard]] std::string csv_table(const ScoreTable& table);
/// One page without any other file: averages, what was left out, and every scenario with the models
/// side by side: pictures of the overlays (frames 0, middle, last), scores, questions and answers.
/// `other` is the same in the other variant.
[[nodiscard]] std::string html_page(const Layout& layout, const ScoreTable& table,
                                    const ScoreTable& other);

/// report.md, report.tex, report.csv and report.html in `out`; their paths.
[[nodiscard]] std::vector<std::filesystem::path> write_report(const Layout& layout,
                                                              const ScoreTable& table,
                                                              const ScoreTable& other,
                                                              const std::filesystem::path& out);

}  // namespace matrix::eval
