#include "eval/video_plan.h"

#include "eval/overlay_record.h"
#include "eval/question_files.h"
#include "eval/sound_scenarios.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/eval/sampling.h"
#include "matrix/media/video.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

VideoToJudge look_at(const Asking& asking, const LeftOut& place, const Scenario& scenario) {
    VideoToJudge video{place.model, place.data_type, scenario, {}, {}, {}};
    video.overlay = asking.layout.overlay(place.model, place.data_type, place.video);
    if (!fs::exists(video.overlay)) {
        throw RunError("no overlay " + video.overlay.string() +
                       "; run `matrix eval overlay` first");
    }
    if (const auto reason = why_outdated(asking.layout, place.model, place.data_type, scenario)) {
        throw RunError(video.overlay.string() + ": " + *reason + "; run `matrix eval overlay`");
    }
    const media::VideoInfo info = media::probe_video(video.overlay);
    video.overlay_hash = hash_file(video.overlay);
    video.frames = sampled_frames(info.num_frames);
    video.width_px = info.width_px;
    video.height_px = info.height_px;
    return video;
}

bool is_of_scenario(const Json& entry, const Scenario& scenario) {
    return entry.contains("prompt") && entry.at("prompt") == scenario.prompt &&
           is_of_objects(entry, scenario);
}

void plan_video(const Asking& asking, const VideoStep& step, const LeftOut& place,
                const Scenario& scenario, const std::shared_ptr<ResultFile>& file, Plan& plan) {
    const Json* entry = file->find(scenario.id);
    const bool has_overlay =
        fs::exists(asking.layout.overlay(place.model, place.data_type, place.video));
    const bool is_fit = entry != nullptr && is_of_scenario(*entry, scenario);
    const bool can_compare = is_fit && has_overlay && entry->contains("inputs");
    if (is_fit && !can_compare) {
        ++plan.kept;
        return;
    }
    VideoWork work = step.work(look_at(asking, place, scenario));
    const std::string inputs = hash_text(work.inputs);
    if (can_compare && entry->at("inputs") == inputs) {
        ++plan.kept;
        return;
    }
    plan.tasks.push_back({place, work.cost, [file, inputs, place, judge = std::move(work.judge)] {
                              file->erase(place.video);  // a stale one is not to be scored
                              Json made = judge();
                              made["inputs"] = inputs;
                              file->put(place.video, std::move(made));
                          }});
}

void plan_folder(const Asking& asking, const VideoStep& step, const std::string& model,
                 const std::string& type, Plan& plan) {
    const fs::path path = step.file(model, type);
    if (!fs::exists(asking.layout.results(model, type)) && !fs::exists(path)) {
        throw RunError(
            "no results of this model for this data type; run `matrix eval overlay` first");
    }
    const std::vector<Scenario> scenarios =
        read_sound_scenarios(asking.layout, type, model, plan.left_out);
    const auto file = std::make_shared<ResultFile>(path, "video_id");
    for (const Scenario& scenario : scenarios) {
        LeftOut place{model, type, scenario.id, ""};
        try {
            plan_video(asking, step, place, scenario, file, plan);
        } catch (const RunError& error) {
            place.reason = error.what();
            plan.left_out.push_back(std::move(place));
        }
    }
}

}  // namespace

Plan plan_videos(const Asking& asking, const VideoStep& step) {
    Plan plan{step.name, {}, 0, {}};
    for (const std::string& model : asking.selection.models) {
        for (const std::string& type : asking.selection.data_types) {
            try {
                plan_folder(asking, step, model, type, plan);
            } catch (const RunError& error) {
                plan.left_out.push_back({model, type, "", error.what()});
            }
        }
    }
    return plan;
}

}  // namespace matrix::eval
