#include "eval/chat.h"
#include "eval/question_files.h"
#include "eval/sound_scenarios.h"
#include "matrix/core/error.h"

namespace matrix::eval {
namespace {

constexpr std::string_view kInstruction =
    R"text(You write the questions by which a generated video is judged later, frame by frame. You see its prompt and its instances: for each one its class, its appearance, and the colour of the box (bbox) drawn around it. The three arrays are aligned: entry i of each belongs to the same instance.

First find every key interaction of the prompt: a distinct physical action of one instance on another, or a distinct relation between them. Most prompts have one or two.

Then write for each key interaction exactly ten yes/no questions, in this order. "Subject" is the instance that acts, "object" the one that is acted on.
 1. Before: is the subject not yet interacting with the object?
 2. During: does the subject begin the action, for instance by moving towards the object?
 3. During: is the first contact made, or the action started?
 4. During: is the action under way, for instance the subject holds the object?
 5. During: is progress visible, the state of the object changing?
 6. After: is the outcome of the action visible?
 7. Actor: is the subject performing some action? Mention the subject alone, and do not name the action.
 8. Actor: is the subject the one that performs this interaction? Mention both.
 9. Recipient: is the object being acted on by the subject? Mention both.
10. Recipient: is the object the one that receives the action? Mention the object alone.
Questions 1 to 6 mention both subject and object.

Rules:
- Refer to an instance by its appearance followed by its colour, as in "the man in a grey coat (red bbox)", and never mix up the indices.
- Present tense, few words, and only what can be seen on a still frame. No guesses about intentions or about what cannot be seen.
- "Yes" must always be the answer that fits the prompt.

Example. Prompt: "A woman opens a fridge." Instances: woman, "woman with short hair", red; fridge, "white fridge", green. Its one key interaction is "the woman opens the fridge", and its questions are:
 1. Is the woman with short hair (red bbox) not touching the white fridge (green bbox)?
 2. Does the woman with short hair (red bbox) reach towards the white fridge (green bbox)?
 3. Does the woman with short hair (red bbox) touch the handle of the white fridge (green bbox)?
 4. Does the woman with short hair (red bbox) pull the door of the white fridge (green bbox)?
 5. Is the door of the white fridge (green bbox) partly open in the hand of the woman with short hair (red bbox)?
 6. Is the white fridge (green bbox) open beside the woman with short hair (red bbox)?
 7. Is the woman with short hair (red bbox) doing something?
 8. Is the woman with short hair (red bbox) the one who opens the white fridge (green bbox)?
 9. Is the white fridge (green bbox) being opened by the woman with short hair (red bbox)?
10. Is the white fridge (green bbox) the thing that is being opened?

Reply with one JSON object: {"items": [{"key_interaction": "...", "questions": ["...", nine more]}, ...]}.)text";

Form question_form() {
    const Json text = {{"type", "string"}};
    const Json item = object_schema({{"key_interaction", text}, {"questions", array_schema(text)}});
    return {"questions", kInstruction, object_schema({{"items", array_schema(item)}}), 700};
}

void make_questions(const Asking& asking, const std::string& type, const Scenario& scenario) {
    Json file = described(scenario);
    std::vector<KeyInteraction> interactions;
    asking.client->ask(chat_request(question_form(), asking, {text_part(file.dump())}),
                       [&](const Json& content) { interactions = read_questions(content); });
    file["items"] = Json::array();
    for (const KeyInteraction& interaction : interactions) {
        file["items"].push_back(
            {{"key_interaction", interaction.text}, {"questions", interaction.questions}});
    }
    file["model_used"] = asking.vlm;
    write_json(asking.layout.questions(type, scenario.id), file);
}

void plan_video(const Asking& asking, const std::string& type, const Scenario& scenario,
                Plan& plan) {
    const LeftOut place{"", type, scenario.id, ""};
    try {
        const std::string text = described(scenario).dump();
        if (read_question_file(asking.layout, type, scenario)) {
            ++plan.kept;
            return;
        }
        plan.tasks.push_back(
            {place, cost_of(question_form(), text, 0, 0, 0),
             [asking, type, scenario] { make_questions(asking, type, scenario); }});
    } catch (const RunError& error) {
        plan.left_out.push_back({"", type, scenario.id, error.what()});
    }
}

}  // namespace

Plan plan_questions(const Asking& asking) {
    Plan plan{"questions", {}, 0, {}};
    for (const std::string& type : asking.selection.data_types) {
        try {
            for (const Scenario& scenario :
                 read_sound_scenarios(asking.layout, type, "", plan.left_out)) {
                plan_video(asking, type, scenario, plan);
            }
        } catch (const RunError& error) {
            plan.left_out.push_back({"", type, "", error.what()});
        }
    }
    return plan;
}

}  // namespace matrix::eval
