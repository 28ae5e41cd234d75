#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/data_source/manifest.h"
#include "matrix/text/t5_tokenizer.h"

#include <cstdint>
#include <string>
#include <vector>

namespace matrix::data_source {

/// How far the doctor reads.
enum class Depth {
    kHeaders,  ///< what headers, folder listings and the metadata tell
    kPixels,   ///< also decodes every frame and mask that training would use
};

struct DatasetReport {
    std::int64_t num_clips = 0;
    std::int64_t num_without_interactions = 0;
    std::int64_t num_without_masks = 0;
    std::int64_t num_proposed = 0;    ///< clips with roles that no person has confirmed
    std::vector<std::string> faults;  ///< one line each, naming the file
    std::vector<std::string> notes;   ///< what is allowed and worth knowing
};

/// All faults of one row, appended. `tokenizer` may be null: the token limit is then not looked at.
void check_row(const Row& row, const data_cache::DataConfig& config,
               const text::T5Tokenizer* tokenizer, Depth depth, DatasetReport& report);

/// Every fault of the data set at data.path, at once. `tokenizer` as in `check_row`.
[[nodiscard]] DatasetReport check_dataset(const data_cache::DataConfig& config,
                                          const text::T5Tokenizer* tokenizer, Depth depth);

}  // namespace matrix::data_source
