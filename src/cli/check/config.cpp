#include <algorithm>
#include <iterator>

#include "cli/check/report.h"
#include "cli/run_config.h"
#include "matrix/models/cogvideox.h"

namespace matrix::cli::check {
namespace {

namespace fs = std::filesystem;

/// Blocks against the model's. A section that is at fault itself was read in part: what its
/// defaults would break is no news.
void check_blocks(const RunConfig& config, const models::CogVideoXConfig& transformer,
                  Report& report) {
    const std::vector<std::string> own = report.faults;
    const auto at_fault = [&](const std::string& section) {
        return std::ranges::any_of(own, [&](const std::string& fault) {
            return fault.starts_with(section) || fault.starts_with("data.id_map");
        });
    };
    for (const std::string& fault :
         check_against_model(config, transformer.num_layers, transformer.num_attention_heads,
                             transformer.patch_size_t.has_value())) {
        if (!at_fault(fault.substr(0, fault.find_first_of(".:")))) {
            report.faults.push_back(fault);
        }
    }
}

}  // namespace

Report check_config(const fs::path& run_file) {
    Report report;
    report.facts["path"] = run_file.string();
    const RunConfig config = read_run_config(run_file, {}, report.faults);
    const fs::path model = config.model.path;
    report.facts["model"] = model.string();
    if (!fs::is_directory(model)) {
        report.notes.push_back("model.path: " + model.string() +
                               " is not there, so block numbers were not compared with it");
    } else {
        report.collect([&] {
            check_blocks(config,
                         models::CogVideoXConfig::from_file(model / "transformer" / "config.json"),
                         report);
        });
    }
    std::ranges::move(warnings(config), std::back_inserter(report.notes));
    if (report.faults.empty()) {
        report.lines.push_back(run_file.string() + ": valid");
    }
    return report;
}

}  // namespace matrix::cli::check
