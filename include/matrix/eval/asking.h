#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "matrix/eval/layout.h"
#include "matrix/eval/vlm.h"

// The steps that ask a vision-language model. Each is planned first, so that its cost can be told
// before anything is sent; what is done and still valid is no part of a plan.

namespace matrix::eval {

/// What a plan would send at most; a request whose reply is in the cache costs nothing. Tokens are
/// estimates: a quarter of the characters, 85 + 170 for every 512 x 512 tile of a picture, and
/// replies of the usual length without what a model thinks to itself.
struct Cost {
    std::int64_t requests = 0;
    std::int64_t pictures = 0;
    std::int64_t input_tokens = 0;
    std::int64_t output_tokens = 0;
    Cost& operator+=(const Cost& other);
};

struct Task {
    LeftOut place;  ///< the video, without a reason
    Cost cost;
    std::function<void()> run;
};

struct Plan {
    std::string step;
    std::vector<Task> tasks;
    std::size_t kept = 0;
    std::vector<LeftOut> left_out;  ///< what cannot be asked about
    [[nodiscard]] Cost cost() const;
};

struct Asking {
    Layout layout;
    Selection selection;
    std::string vlm;
    std::int64_t seed = 42;
    /// Not needed for planning; outlives the plans otherwise.
    VlmClient* client = nullptr;
    /// verify: one box may belong to several objects, as in the public code.
    bool shared_boxes = false;
    /// answers: where questions are missing, plan for one key interaction a video.
    bool assume_questions = false;
};

/// Step 2: which detected box is which object: verify_results.json, verify_vis/.
[[nodiscard]] Plan plan_verify(const Asking& asking);
/// Step 6: questions/NNN.json, of which those that are there stay as they are.
[[nodiscard]] Plan plan_questions(const Asking& asking);
/// Step 7: on which frames instances appear from nowhere or vanish.
[[nodiscard]] Plan plan_emergence(const Asking& asking);
/// Step 8: answers to the questions.
[[nodiscard]] Plan plan_answers(const Asking& asking);

/// Runs a plan's tasks, `concurrency` at a time. A task's RunError leaves out its video alone;
/// Stopped goes on to the caller once the requests under way came back or were given up.
[[nodiscard]] StepResult carry_out(Plan plan, std::size_t concurrency);

}  // namespace matrix::eval
