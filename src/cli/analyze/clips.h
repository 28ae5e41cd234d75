#pragma once

#include "matrix/analysis/entities.h"
#include "matrix/data_cache/config.h"
#include "matrix/data_source/manifest.h"
#include "matrix/data_source/sample.h"
#include "matrix/text/t5_tokenizer.h"

#include <string>
#include <vector>

namespace matrix::cli::analyze {

/// A row of the data set, ready to be read.
struct AnalysedClip {
    data_source::Row row;
    data_source::RawSample sample;
    std::vector<analysis::Entity> entities;
};

/// How rows become clips.
struct ClipRules {
    const data_cache::DataConfig& data;
    const text::T5Tokenizer& tokenizer;
    bool published_spans = false;  ///< analysis/token_spans.h
};

/// Decodes one row. RunError with its faults; that no word and no track of it is left is one.
[[nodiscard]] AnalysedClip load_clip(const data_source::Row& row, const ClipRules& rules);

}  // namespace matrix::cli::analyze
