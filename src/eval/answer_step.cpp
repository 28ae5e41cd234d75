#include "eval/chat.h"
#include "eval/question_files.h"
#include "eval/video_plan.h"
#include "matrix/core/error.h"

namespace matrix::eval {
namespace {

constexpr std::string_view kInstruction =
    R"text(You judge a generated video by frames from it, each preceded by its number. Every instance has a box (bbox) in its own colour, and is tinted in that colour on frame 0. You get the prompt that the video should follow, and ten numbered questions.

For every question:
- Go by what is visible alone, not by what the prompt says should happen. Find each instance by the colour of its box.
- Choose the one frame that decides the question. If several are equally good, take the earliest. If none shows what is asked, the answer is "no" and the frame is null.
- Answer "yes" or "no" for that frame.
- If what the frame shows there is visually impossible (wrong anatomy, instances fused or split within a box, bodies that pass through each other), answer "no (visually implausible)" in place of "yes": an interaction that makes no sense earns nothing.

Answer all ten questions, each once. Reply with one JSON object:
{"answers": [{"question_id": 1 to 10, "answer": "yes", "no" or "no (visually implausible)", "frame_index": the frame's number or null}, ...]})text";

Form answer_form() {
    const Json entry =
        object_schema({{"question_id", {{"type", "integer"}}},
                       {"answer", enum_schema({"yes", "no", "no (visually implausible)"})},
                       {"frame_index", {{"type", Json::array({"integer", "null"})}}}});
    return {"answers", kInstruction, object_schema({{"answers", array_schema(entry)}}), 350};
}

std::string asked(const Scenario& scenario, const KeyInteraction& interaction) {
    std::string text = "Prompt: " + scenario.prompt + "\n\nQuestions:\n";
    for (std::size_t i = 0; i < interaction.questions.size(); ++i) {
        text += std::to_string(i + 1) + ". " + interaction.questions[i] + "\n";
    }
    return text;
}

Json as_json(const std::array<QuestionAnswer, kQuestions>& answers) {
    Json list = Json::array();
    for (std::size_t i = 0; i < answers.size(); ++i) {
        list.push_back({{"question_id", i + 1},
                        {"answer", answers[i].answer},
                        {"frame_index", answers[i].frame ? Json(*answers[i].frame) : Json()}});
    }
    return list;
}

Json judge(const Asking& asking, const VideoToJudge& video,
           const std::vector<KeyInteraction>& interactions) {
    const std::vector<Json> frames =
        frame_parts(asking.client->cache(), video.overlay, video.frames);
    Json items = Json::array();
    for (const KeyInteraction& interaction : interactions) {
        std::vector<Json> parts = {text_part(asked(video.scenario, interaction))};
        parts.insert(parts.end(), frames.begin(), frames.end());
        std::array<QuestionAnswer, kQuestions> answers;
        asking.client->ask(chat_request(answer_form(), asking, std::move(parts)),
                           [&](const Json& content) { answers = read_answers(content); });
        items.push_back({{"item_index", items.size()},
                         {"key_interaction", interaction.text},
                         {"questions", interaction.questions},
                         {"question_verification_results", as_json(answers)}});
    }
    Json entry = described(video.scenario);
    entry["frames_analyzed"] = video.frames.size();
    entry["frame_indices"] = video.frames;
    entry["model_used"] = asking.vlm;
    entry["items"] = std::move(items);
    return entry;
}

std::vector<KeyInteraction> questions_about(const Asking& asking, const VideoToJudge& video) {
    auto interactions = read_question_file(asking.layout, video.data_type, video.scenario);
    if (!interactions && !asking.assume_questions) {
        throw RunError("no questions about it; run `matrix eval questions` first");
    }
    return interactions.value_or(std::vector{
        KeyInteraction{"", std::vector<std::string>(kQuestions, std::string(60, '?'))}});
}

}  // namespace

Plan plan_answers(const Asking& asking) {
    const auto file = [layout = asking.layout](const std::string& model, const std::string& type) {
        return layout.answers(model, type);
    };
    const auto work = [asking](const VideoToJudge& video) {
        const std::vector<KeyInteraction> interactions = questions_about(asking, video);
        Json inputs = {video.overlay_hash, asking.vlm, asking.seed, kInstruction};
        Cost cost;
        for (const KeyInteraction& interaction : interactions) {
            const std::string text = asked(video.scenario, interaction);
            cost += cost_of(answer_form(), text, static_cast<std::int64_t>(video.frames.size()),
                            video.width_px, video.height_px);
            inputs.push_back(text);
        }
        return VideoWork{inputs.dump(), cost, [=] { return judge(asking, video, interactions); }};
    };
    return plan_videos(asking, {"answers", file, work});
}

}  // namespace matrix::eval
