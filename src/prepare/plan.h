#pragma once

#include "matrix/data_cache/index.h"
#include "matrix/data_source/manifest.h"
#include "matrix/data_source/sample.h"
#include "prepare/decode_ahead.h"

#include <map>
#include <string>
#include <vector>

namespace matrix::prepare {

/// What the cache should hold for a data set, and what of that it does not.
struct Plan {
    data_source::Manifest manifest;
    data_cache::CacheIndex index;                ///< complete but for the tokens of `interactions`
    std::vector<data_source::RowText> texts;     ///< one a row
    std::map<std::string, std::string> prompts;  ///< missing entries: key to text
    std::vector<DecodeJob> jobs;  ///< rows with a missing video, mask or ID-map entry
    std::vector<std::string> notes;
};

/// Hashes the data set's files and looks for their entries; decodes nothing. Saves `hashes`, also
/// where the data set has faults. RunError with every fault that headers and text show.
[[nodiscard]] Plan make_plan(const data_cache::DataConfig& config,
                             const data_cache::EncoderIds& encoders,
                             const text::T5Tokenizer& tokenizer, data_cache::FileHashes& hashes);

}  // namespace matrix::prepare
