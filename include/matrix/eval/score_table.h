#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "matrix/eval/layout.h"
#include "matrix/eval/scores.h"

// Steps 9 to 12: from the files of steps 7 and 8, ours or those of the public code, to scores per
// video, data type and model.

namespace matrix::eval {

struct AnsweredInteraction {
    std::string text;
    std::vector<std::string> questions;
    Answers answers{};
    std::array<std::string, kQuestions> words;  ///< as they were given; empty where none was
};

struct VideoScore {
    std::string id;
    std::string prompt;
    std::vector<AnsweredInteraction> interactions;
    std::optional<RawScores> raw;            ///< where there are answers
    std::optional<Propagation> propagation;  ///< where step 7 judged it
    std::optional<Fidelity> fidelity;        ///< where there are both
};

/// One model on one data type, by video.
struct FolderScores {
    std::string model;
    std::string data_type;
    std::vector<VideoScore> videos;
};

struct ScoreTable {
    ScoreOptions options;
    std::vector<FolderScores> folders;
    std::vector<LeftOut> left_out;   ///< videos without a score, and why
    std::vector<std::string> notes;  ///< what a reader of the scores should know
};

/// A result that says "error", answers with numbers other than 1 to 10 or two to one question leave
/// their video out; a video that meta.json has and the results have not is left out, too.
[[nodiscard]] ScoreTable score(const Layout& layout, const Selection& selection,
                               const ScoreOptions& options);

/// Plain means over videos that have a full score; empty without any.
struct Average {
    std::size_t videos = 0;
    std::optional<double> kisa, sgi, fidelity;
    std::optional<double> raw_kisa, raw_sgi, spi;
};
struct TypeAverage {
    std::string data_type;
    Average average;
};
struct ModelAverage {
    std::string model;
    Average average;  ///< over the videos of all data types
    std::vector<TypeAverage> types;
};
/// By IF, descending.
[[nodiscard]] std::vector<ModelAverage> averages(const ScoreTable& table);

/// The five files of the published layout; the summaries hold the table's models.
void write_score_files(const Layout& layout, const ScoreTable& table);

}  // namespace matrix::eval
