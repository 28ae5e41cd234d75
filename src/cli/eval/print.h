#pragma once

#include <vector>

#include "cli/eval/flags.h"
#include "matrix/eval/asking.h"
#include "matrix/eval/score_table.h"

namespace matrix::cli::eval {

/// One line a plan, and the sum where there are several.
void print_estimate(const std::vector<Plan>& plans, const AskingFlags& flags);
void print_result(const StepResult& result);
void print_spending(const Spending& spending);
/// Averages by model, and what the other variant would give.
void print_scores(const ScoreTable& table, const ScoreTable& other);
[[nodiscard]] nlohmann::ordered_json scores_json(const ScoreTable& table, const ScoreTable& other);

/// RunError with one line for each thing left out, the first that is said of a video alone.
void throw_left_out(const std::vector<LeftOut>& left_out);

}  // namespace matrix::cli::eval
