#include <algorithm>
#include <cmath>

#include "eval/chat.h"
#include "eval/question_files.h"
#include "eval/video_plan.h"

namespace matrix::eval {
namespace {

// Emergence is judged by class, and by the absence of a box: a second instance without a box of a
// class that frame 0 has does not count (spec E7, where the published instruction contradicts
// itself).
constexpr std::string_view kInstruction =
    R"text(You look for hallucinated and lost objects in a generated video. Frame 0 is the reference; you compare every later frame with it. You are given the classes of the tracked objects and, index by index, the colours of the boxes drawn around them. Frame 0 also has each object tinted in its colour. Objects of classes that are not listed do not matter.

Emergence. A frame shows an emergence if it contains an object of a listed class that has no box, and frame 0 shows no instance of that class at all, with or without a box. Look everywhere: in the background, at the edges, and inside the boxes of other objects. An object that has a box, or whose class frame 0 already shows, is no emergence.

Disappearance. The roster is the list of (class, colour) pairs in frame 0. A frame shows a disappearance if any member of the roster cannot be found in it. An object that is partly hidden, blurred or changed in shape is still there.

Judge each frame on its own and name frames by the numbers that precede them. Never name frame 0.

Reply with one JSON object:
{"emergence": "yes" or "no", "emergence_frames": [numbers], "emergence_reason": "which object, in a few words", "disappearance": "yes" or "no", "disappearance_frames": [numbers], "disappearance_reason": "which object, in a few words"}
Where nothing of a kind is found: "no", an empty list and an empty text.)text";

Form emergence_form() {
    const Json word = enum_schema({"yes", "no"});
    const Json numbers = array_schema({{"type", "integer"}});
    const Json text = {{"type", "string"}};
    return {"emergence", kInstruction,
            object_schema({{"emergence", word},
                           {"emergence_frames", numbers},
                           {"emergence_reason", text},
                           {"disappearance", word},
                           {"disappearance_frames", numbers},
                           {"disappearance_reason", text}}),
            150};
}

std::string roster_text(const EntityFields& fields) {
    return Json{{"classes", fields.entity}, {"colors", fields.colors}}.dump();
}

/// One entry a frame but the first, and the sums that nothing reads, as in the public code: without
/// lambda, the last two as whole numbers.
void add_frames(Json& entry, const VideoToJudge& video, const FlaggedFrames& flagged) {
    double emerged = 0.0;
    double vanished = 0.0;
    Json frames = Json::array();
    const auto has = [](const std::vector<std::int64_t>& list, std::int64_t frame) {
        return std::find(list.begin(), list.end(), frame) != list.end();
    };
    for (std::size_t i = 1; i < video.frames.size(); ++i) {
        const std::int64_t frame = video.frames[i];
        const bool emergence = has(flagged.emergence, frame);
        const bool disappearance = has(flagged.disappearance, frame);
        emerged += emergence ? 1.0 : 0.0;
        vanished += disappearance ? 1.0 : 0.0;
        frames.push_back(
            {{"frame_idx", frame},
             {"emergence", emergence ? "yes" : "no"},
             {"disappearance", disappearance ? "yes" : "no"},
             {"emergence_reason", emergence ? flagged.emergence_reason : ""},
             {"disappearance_reason", disappearance ? flagged.disappearance_reason : ""}});
    }
    const double n = std::max<double>(1.0, static_cast<double>(frames.size()));
    const double emergence_score = frames.empty() ? 0.0 : 1.0 - emerged / n;
    const double disappearance_score = frames.empty() ? 0.0 : 1.0 - vanished / n;
    entry["emergence_score"] = emergence_score;
    entry["disappearance_score"] = std::lround(disappearance_score);
    entry["hallucination_score"] = std::lround((emergence_score + disappearance_score) / 2.0);
    entry["hallucination_results"] = std::move(frames);
}

Json judge(const Asking& asking, const VideoToJudge& video) {
    const EntityFields fields = entity_fields(video.scenario);
    FlaggedFrames flagged;
    Json overall = Json::object();
    // With one frame there is nothing to compare, and nothing to pay for.
    if (video.frames.size() > 1) {
        std::vector<Json> parts = {text_part(roster_text(fields))};
        for (Json& part : frame_parts(asking.client->cache(), video.overlay, video.frames)) {
            parts.push_back(std::move(part));
        }
        asking.client->ask(chat_request(emergence_form(), asking, std::move(parts)),
                           [&](const Json& content) {
                               flagged = read_flagged_frames(content);
                               overall = content;
                           });
    }
    Json entry = {{"video_id", video.scenario.id},
                  {"prompt", video.scenario.prompt},
                  {"entity", fields.entity},
                  {"colors", fields.colors},
                  {"frames_analyzed", video.frames.size()},
                  {"model_used", asking.vlm}};
    add_frames(entry, video, flagged);
    entry["overall_analysis"] = std::move(overall);
    return entry;
}

}  // namespace

Plan plan_emergence(const Asking& asking) {
    const auto file = [layout = asking.layout](const std::string& model, const std::string& type) {
        return layout.emergence(model, type);
    };
    const auto work = [asking](const VideoToJudge& video) {
        const std::string roster = roster_text(entity_fields(video.scenario));
        const auto pictures = static_cast<std::int64_t>(video.frames.size());
        Cost cost;
        if (pictures > 1) {
            cost = cost_of(emergence_form(), roster, pictures, video.width_px, video.height_px);
        }
        const Json inputs = {video.overlay_hash, asking.vlm, asking.seed, kInstruction, roster};
        return VideoWork{inputs.dump(), cost, [asking, video] { return judge(asking, video); }};
    };
    return plan_videos(asking, {"emergence", file, work});
}

}  // namespace matrix::eval
