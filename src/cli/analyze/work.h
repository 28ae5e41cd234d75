#pragma once

#include "cli/analyze/clips.h"
#include "cli/analyze/reading.h"
#include "cli/analyze/settings.h"
#include "matrix/data_source/manifest.h"
#include "matrix/pipeline/video_pipeline.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace matrix::cli::analyze {

/// A row that can be read, or has been.
struct Work {
    const data_source::Row* row;
    std::string made_from;
    at::Tensor input_ids;  ///< [L]
    bool is_there = false;
};

/// The rows without a fault that shows before anything is decoded; the faults of the others are
/// appended.
[[nodiscard]] std::vector<Work> plan(const std::vector<data_source::Row>& rows,
                                     const Settings& settings, const ClipRules& rules,
                                     const pipeline::PipelineOptions& options,
                                     std::vector<std::string>& faults);

/// Reads what is not there and writes its records; a clip with faults leaves the list.
void read_missing(std::vector<Work>& work, const Settings& settings, const ClipRules& rules,
                  Reader& reader, std::vector<std::string>& faults);

}  // namespace matrix::cli::analyze
