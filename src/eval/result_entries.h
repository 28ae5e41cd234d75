#pragma once

#include <string>
#include <vector>

#include "eval/json_reading.h"
#include "matrix/eval/score_table.h"

// Entries of the files of steps 7 and 8, ours or those of the public code.

namespace matrix::eval {

/// `interactions` and `raw` of a video. RunError for failed or impossible answers.
void read_answers_of(const Json& entry, VideoScore& video, const ScoreOptions& options);

/// `propagation` of a video. RunError for a frame that is not judged.
void read_flags_of(const Json& entry, VideoScore& video, const ScoreOptions& options,
                   std::vector<std::string>& notes);

}  // namespace matrix::eval
