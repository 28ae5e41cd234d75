#include "eval/result_entries.h"

#include <set>

#include "matrix/core/error.h"

namespace matrix::eval {
namespace {

/// The answers of one key interaction in question_verification.json.
AnsweredInteraction read_item(const Json& item) {
    if (item.is_object() && item.contains("error")) {
        throw RunError("asking about a key interaction failed");
    }
    AnsweredInteraction result;
    result.text = text_of(item, "key_interaction", "an item");
    for (const Json& question : array_of(item, "questions", "an item")) {
        result.questions.push_back(question.is_string() ? question.get<std::string>() : "");
    }
    for (const Json& entry : array_of(item, "question_verification_results", "an item")) {
        const Json id = entry.is_object() ? entry.value("question_id", Json()) : Json();
        if (!id.is_number_integer() || id < 1 || id > kQuestions) {
            throw RunError("question_id " + id.dump() + " is not one of 1 to 10");
        }
        const auto place = id.get<std::size_t>() - 1;
        if (result.answers[place] != Answer::kMissing) {
            throw RunError("question_id " + id.dump() + " is answered twice");
        }
        result.words[place] = text_of(entry, "answer", "an answer");
        result.answers[place] = result.words[place] == "yes" ? Answer::kYes : Answer::kNo;
    }
    return result;
}

std::int64_t flag(const Json& frame, const char* key) {
    const std::string word = text_of(frame, key, "a frame");
    if (word != "yes" && word != "no") {
        throw RunError(std::string("`") + key + "` of a frame is \"" + word + "\"");
    }
    return word == "yes" ? 1 : 0;
}

/// What the public code counts, too, though its own results have none of it.
std::string odd_frames(const Json& frames) {
    std::set<std::int64_t> seen;
    std::string odd;
    for (const Json& frame : frames) {
        const Json number = frame.value("frame_idx", Json());
        if (number.is_number_integer() &&
            (number == 0 || !seen.insert(number.get<std::int64_t>()).second)) {
            odd += (odd.empty() ? "" : ", ") + number.dump();
        }
    }
    return odd;
}

}  // namespace

void read_answers_of(const Json& entry, VideoScore& video, const ScoreOptions& options) {
    std::vector<Answers> answers;
    for (const Json& item : array_of(entry, "items", "its answers")) {
        video.interactions.push_back(read_item(item));
        answers.push_back(video.interactions.back().answers);
    }
    if (answers.empty()) {
        throw RunError("its answers have no key interaction");
    }
    video.raw = raw_scores(answers, options);
}

void read_flags_of(const Json& entry, VideoScore& video, const ScoreOptions& options,
                   std::vector<std::string>& notes) {
    std::int64_t emerged = 0;
    std::int64_t vanished = 0;
    const Json& frames = array_of(entry, "hallucination_results", "its emergence result");
    for (const Json& frame : frames) {
        emerged += flag(frame, "emergence");
        vanished += flag(frame, "disappearance");
    }
    if (const std::string odd = odd_frames(frames); !odd.empty()) {
        notes.push_back("frames that stand twice, or are the first, count in SPI: " + odd);
    }
    video.propagation =
        propagation(static_cast<std::int64_t>(frames.size()), emerged, vanished, options);
}

}  // namespace matrix::eval
