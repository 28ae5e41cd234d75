#pragma once

#include "cli/analyze/clips.h"
#include "cli/analyze/output.h"
#include "cli/analyze/settings.h"

#include <optional>
#include <string>
#include <vector>

namespace matrix::cli::analyze {

/// What the report shows besides the analysis.
struct ReportParts {
    const Settings& settings;
    const ClipRules& rules;
    const std::vector<data_source::Row>& rows;
    const std::optional<Analysis>& beside;
    std::vector<std::string> left_out;  ///< faults of clips
    std::string cost;                   ///< a line, or empty
};

/// The charts as SVG files, the maps of a few clips below pictures/, and report.html with all of
/// them; what an earlier report left of these goes. Returns a line for each clip that could not be
/// drawn.
std::vector<std::string> write_report(const Analysis& analysis, const ReportParts& parts);

}  // namespace matrix::cli::analyze
