#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/json_reading.h"
#include "matrix/eval/scores.h"

// What comes back from a chat completions server, taken apart. All but `server_message` and
// `tokens_of` throw RunError saying what is wrong with the reply.

namespace matrix::eval {

/// What the server says went wrong, in one line, or nothing.
[[nodiscard]] std::string server_message(const std::string& body);

struct Tokens {
    std::int64_t input = 0;
    std::int64_t output = 0;
};
/// From `usage`; zeros where the server does not count.
[[nodiscard]] Tokens tokens_of(const std::string& body);

/// The JSON that the model wrote as its message.
[[nodiscard]] Json content_of(const std::string& body);

struct KeyInteraction {
    std::string text;
    std::vector<std::string> questions;  ///< kQuestions of them
};
[[nodiscard]] std::vector<KeyInteraction> read_questions(const Json& content);

struct FlaggedFrames {
    std::vector<std::int64_t> emergence;
    std::vector<std::int64_t> disappearance;
    std::string emergence_reason;
    std::string disappearance_reason;
};
[[nodiscard]] FlaggedFrames read_flagged_frames(const Json& content);

struct QuestionAnswer {
    std::string answer;  ///< "yes", "no" or "no (visually implausible)"
    std::optional<std::int64_t> frame;
};
/// Of the questions 1 to 10, each once.
[[nodiscard]] std::array<QuestionAnswer, kQuestions> read_answers(const Json& content);

struct CropChoice {
    std::int64_t index = -1;
    double confidence = 0.0;
    std::string reason;
};
/// An index below `num_crops`, or -1.
[[nodiscard]] CropChoice read_crop_choice(const Json& content, std::int64_t num_crops);

}  // namespace matrix::eval
