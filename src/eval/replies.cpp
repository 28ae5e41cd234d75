#include "eval/replies.h"

#include <algorithm>
#include <limits>

#include "matrix/core/error.h"

namespace matrix::eval {
namespace {

constexpr std::size_t kMaxSaid = 200;
const std::string kReply = "the reply";

std::int64_t integer(const Json& value, const std::string& what) {
    if (!value.is_number_integer()) {
        throw RunError(what + " is no whole number");
    }
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > kMost) {
        throw RunError(what + " is too large: " + value.dump());
    }
    return value.get<std::int64_t>();
}

std::string yes_or_no(const Json& content, const char* key) {
    std::string word = text_of(content, key, kReply);
    if (word != "yes" && word != "no") {
        throw RunError(std::string("`") + key + "` is neither yes nor no");
    }
    return word;
}

std::vector<std::int64_t> frames(const Json& content, const char* key) {
    std::vector<std::int64_t> numbers;
    for (const Json& frame : array_of(content, key, kReply)) {
        numbers.push_back(integer(frame, std::string("an entry of `") + key + "`"));
    }
    return numbers;
}

std::int64_t tokens(const Json& usage, const char* key) {
    return usage.is_object() && usage.contains(key) && usage.at(key).is_number_integer()
               ? usage.at(key).get<std::int64_t>()
               : 0;
}

}  // namespace

std::string server_message(const std::string& body) {
    const Json json = Json::parse(body, nullptr, false);
    std::string text;
    if (json.is_object() && json.contains("error")) {
        const Json& error = json.at("error");
        const Json& message =
            error.is_object() && error.contains("message") ? error.at("message") : error;
        text = message.is_string() ? message.get<std::string>() : "";
    }
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c >= 0 && c < ' '; }, ' ');
    if (text.size() > kMaxSaid) {
        std::size_t end = kMaxSaid;
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) {
            --end;  // a character's later bytes stay with its first
        }
        text = text.substr(0, end) + "...";
    }
    return text;
}

Tokens tokens_of(const std::string& body) {
    const Json json = Json::parse(body, nullptr, false);
    if (!json.is_object() || !json.contains("usage")) {
        return {};
    }
    return {tokens(json.at("usage"), "prompt_tokens"),
            tokens(json.at("usage"), "completion_tokens")};
}

Json content_of(const std::string& body) {
    const Json json = parse_ordered(body, "what the server sent");
    const Json& choices = array_of(json, "choices", "what the server sent");
    if (choices.empty() || !choices.at(0).is_object() || !choices.at(0).contains("message")) {
        throw RunError("what the server sent has no message");
    }
    const Json& choice = choices.at(0);
    const Json& message = choice.at("message");
    if (message.is_object() && message.contains("refusal") && message.at("refusal").is_string()) {
        throw RunError("the model refuses to answer");
    }
    if (choice.contains("finish_reason") && choice.at("finish_reason") == "length") {
        throw RunError("the reply was cut off at its largest length");
    }
    return parse_ordered(text_of(message, "content", "the message"), kReply);
}

std::vector<KeyInteraction> read_questions(const Json& content) {
    std::vector<KeyInteraction> result;
    for (const Json& item : array_of(content, "items", kReply)) {
        KeyInteraction interaction{text_of(item, "key_interaction", kReply), {}};
        for (const Json& question : array_of(item, "questions", kReply)) {
            if (!question.is_string() || question.get_ref<const std::string&>().empty()) {
                throw RunError("a question is no text");
            }
            interaction.questions.push_back(question.get<std::string>());
        }
        if (interaction.questions.size() != kQuestions) {
            throw RunError(std::to_string(interaction.questions.size()) + " questions about \"" +
                           interaction.text + "\" instead of 10");
        }
        result.push_back(std::move(interaction));
    }
    if (result.empty()) {
        throw RunError("no key interaction in the reply");
    }
    return result;
}

FlaggedFrames read_flagged_frames(const Json& content) {
    (void)yes_or_no(content, "emergence");  // what counts are the lists
    (void)yes_or_no(content, "disappearance");
    return {frames(content, "emergence_frames"), frames(content, "disappearance_frames"),
            text_of(content, "emergence_reason", kReply),
            text_of(content, "disappearance_reason", kReply)};
}

std::array<QuestionAnswer, kQuestions> read_answers(const Json& content) {
    const Json& list = content.is_array() ? content : array_of(content, "answers", kReply);
    if (list.size() != kQuestions) {
        throw RunError(std::to_string(list.size()) + " answers instead of 10");
    }
    std::array<QuestionAnswer, kQuestions> result;
    for (const Json& entry : list) {
        if (!entry.is_object() || !entry.contains("question_id") ||
            !entry.contains("frame_index")) {
            throw RunError("an answer has no question_id or no frame_index");
        }
        const std::int64_t id = integer(entry.at("question_id"), "a question_id");
        if (id < 1 || id > static_cast<std::int64_t>(kQuestions)) {
            throw RunError("question_id " + std::to_string(id) + " is not one of 1 to 10");
        }
        QuestionAnswer& answer = result[static_cast<std::size_t>(id - 1)];
        if (!answer.answer.empty()) {
            throw RunError("question_id " + std::to_string(id) + " is answered twice");
        }
        answer.answer = text_of(entry, "answer", kReply);
        if (answer.answer != "yes" && answer.answer != "no" &&
            answer.answer != "no (visually implausible)") {
            throw RunError("\"" + answer.answer + "\" is no answer to question " +
                           std::to_string(id));
        }
        if (!entry.at("frame_index").is_null()) {
            answer.frame = integer(entry.at("frame_index"), "a frame_index");
        }
    }
    return result;
}

CropChoice read_crop_choice(const Json& content, std::int64_t num_crops) {
    CropChoice choice;
    if (!content.is_object() || !content.contains("index") || !content.contains("confidence") ||
        !content.at("confidence").is_number()) {
        throw RunError("the reply has no index or no confidence");
    }
    choice.index = integer(content.at("index"), "`index`");
    choice.confidence = content.at("confidence").get<double>();
    choice.reason = text_of(content, "reason", kReply);
    if (choice.index < -1 || choice.index >= num_crops) {
        throw RunError("index " + std::to_string(choice.index) + " of " +
                       std::to_string(num_crops) + " crops");
    }
    if (choice.confidence < 0.0 || choice.confidence > 1.0) {
        throw RunError("a confidence outside 0 to 1");
    }
    return choice;
}

}  // namespace matrix::eval
