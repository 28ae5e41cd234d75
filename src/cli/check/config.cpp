#include <algorithm>
#include <iterator>

#include "cli/check/report.h"
#include "cli/run_config.h"
#include "matrix/pipeline/video_size.h"

namespace matrix::cli::check {
namespace fs = std::filesystem;

Report check_config(const fs::path& run_file) {
    Report report;
    report.facts["path"] = run_file.string();
    const RunConfig config = read_run_config(run_file, {}, report.faults);
    const fs::path model = config.model.path;
    report.facts["model"] = model.string();
    if (!fs::is_directory(model)) {
        report.notes.push_back("model.path: " + model.string() +
                               " is not there, so nothing was compared with it");
    } else {
        report.collect(
            [&] { check_against_model(config, pipeline::read_size_rules(model), report.faults); });
    }
    std::ranges::move(warnings(config), std::back_inserter(report.notes));
    if (report.faults.empty()) {
        report.lines.push_back(run_file.string() + ": valid");
    }
    return report;
}

}  // namespace matrix::cli::check
