#pragma once

#include "cli/analyze/reading.h"
#include "cli/analyze/settings.h"
#include "matrix/analysis/record.h"
#include "matrix/analysis/summary.h"

#include <filesystem>
#include <string>
#include <vector>

namespace matrix::cli::analyze {

/// An analysis as it stands in its directory.
struct Analysis {
    std::string label;  ///< what the report calls it
    std::vector<analysis::VideoRecord> records;
    analysis::Summary summary;
};

/// Of record files, in their order. RunError where there are none.
[[nodiscard]] Analysis read_analysis(const std::string& label,
                                     const std::vector<std::filesystem::path>& records,
                                     const analysis::SummaryOptions& options);

/// Of the directory of an earlier analysis. RunError where it is none.
[[nodiscard]] Analysis read_earlier(const std::filesystem::path& directory,
                                    const analysis::SummaryOptions& options);

/// Where a clip's record, and a generated video, go below the output directory.
[[nodiscard]] std::filesystem::path record_path(const std::filesystem::path& out,
                                                const std::string& video);
[[nodiscard]] std::filesystem::path video_path(const std::filesystem::path& out,
                                               const std::string& video);

/// scores.csv, analysis.json, and for each variant influence, dominance and variance tables.
void write_tables(const std::filesystem::path& out, const Analysis& analysis);

/// Sets alignment.sga.blocks, alignment.spa.blocks and lora.blocks of a run's file, everything else
/// as it was, a term that is off too; a file that is not there becomes one with these, the model,
/// the data and its size alone. RunError, with the file as it was, where a term has no layer.
void write_config(const std::filesystem::path& config, const std::string& model,
                  const data_cache::DataConfig& data, const analysis::Summary& summary);

/// {"videos/a.mp4": "success", "videos/b.mp4": "failure"}. UsageError with every fault.
[[nodiscard]] std::vector<analysis::Outcome> read_outcomes(const std::filesystem::path& path);

}  // namespace matrix::cli::analyze
