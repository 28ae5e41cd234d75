#pragma once

#include "matrix/analysis/summary.h"

#include <cstddef>
#include <string>
#include <vector>

namespace matrix::analysis {

/// One column of the report.
struct ReportSide {
    std::string label;
    const Summary& summary;
    std::size_t num_clips = 0;
};

struct ReportPicture {
    std::string caption;
    std::string jpeg;  ///< a file's bytes
};

struct Report {
    std::string title;
    std::vector<std::string> about;  ///< one line each: how the scores came about
    std::vector<ReportSide> sides;   ///< the first is what the report is about
    std::vector<ReportPicture> pictures;
    std::vector<std::string> left_out;  ///< one line each
};

/// One HTML page with everything in it: no script, no font, no file is fetched. It reads at any
/// width from 360 px on.
[[nodiscard]] std::string report_html(const Report& report);

}  // namespace matrix::analysis
