#include "matrix/eval/overlay.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <numeric>

#include "eval/overlay_record.h"
#include "eval/paint.h"
#include "eval/question_files.h"
#include "eval/sound_scenarios.h"
#include "matrix/core/error.h"
#include "matrix/core/signals.h"
#include "matrix/log/progress.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

constexpr double kFramesPerSecond = 8.0;
constexpr std::int64_t kFramesAtOnce = 32;

/// Masks in a track's folder; RunError unless they are 000.png to the video's last frame.
void check_track(const fs::path& track, std::int64_t num_frames) {
    if (!fs::is_directory(track)) {
        throw RunError("no track " + track.string());
    }
    std::int64_t count = 0;
    for (const auto& entry : fs::directory_iterator(track)) {
        count += entry.path().extension() == ".png" ? 1 : 0;
    }
    if (count != num_frames) {
        throw RunError(track.string() + ": " + std::to_string(count) + " masks for a video of " +
                       std::to_string(num_frames) + " frames");
    }
    for (std::int64_t frame = 0; frame < num_frames; ++frame) {
        const fs::path mask = track / (video_id(static_cast<std::size_t>(frame)) + ".png");
        if (!fs::exists(mask)) {
            throw RunError("no mask " + mask.string());
        }
    }
}

at::Tensor read_track_mask(const fs::path& path, const media::VideoInfo& info) {
    at::Tensor mask = media::read_mask(path);
    if (mask.size(0) != info.height_px || mask.size(1) != info.width_px) {
        throw RunError(path.string() + ": " + std::to_string(mask.size(1)) + " x " +
                       std::to_string(mask.size(0)) + " pixels, the video has " +
                       std::to_string(info.width_px) + " x " + std::to_string(info.height_px));
    }
    return mask;
}

void draw_frame(at::Tensor& frame, std::int64_t number, const fs::path& tracks,
                std::size_t num_entities, const media::VideoInfo& info) {
    std::vector<at::Tensor> masks;
    for (std::size_t i = 0; i < num_entities; ++i) {
        const std::string name = video_id(static_cast<std::size_t>(number)) + ".png";
        masks.push_back(read_track_mask(track_folder(tracks, i) / name, info));
        if (number == 0) {
            tint(frame, masks[i], object_color(i));
        }
    }
    for (std::size_t i = 0; i < num_entities; ++i) {
        draw_box(frame, bounds(masks[i]), object_color(i));
    }
}

void overlay_one(const Layout& layout, const LeftOut& place, const Scenario& scenario,
                 StepResult& result) {
    const fs::path video = layout.output(place.model, place.data_type, scenario.id);
    const fs::path tracks = layout.results(place.model, place.data_type) / "tracks" / scenario.id;
    const fs::path out = layout.overlay(place.model, place.data_type, scenario.id);
    const fs::path path = overlay_record(layout, place.model, place.data_type, scenario.id);
    Json record = described(scenario);
    const Json before = fs::exists(path) ? read_json(path) : Json();
    const bool is_drawn = fs::exists(out);
    if (!is_drawn && before != record) {  // with a drawing it goes on to tell of that one
        write_json(path, record);
    }
    if (!fs::exists(video)) {
        throw RunError("no video " + video.string());
    }
    record["drawn_from"] = sources_of(video, tracks, scenario.entities.size());
    if (is_drawn && before == record) {
        ++result.kept;
        return;
    }
    write_overlay(video, tracks, scenario.entities.size(), out);
    write_json(path, record);
    ++result.done;
}

}  // namespace

void write_overlay(const fs::path& video, const fs::path& tracks, std::size_t num_entities,
                   const fs::path& out) {
    const media::VideoInfo info = media::probe_video(video);
    for (std::size_t i = 0; i < num_entities; ++i) {
        check_track(track_folder(tracks, i), info.num_frames);
    }
    fs::create_directories(out.parent_path());
    media::VideoWriter writer(out, info.width_px, info.height_px, kFramesPerSecond);
    for (std::int64_t first = 0; first < info.num_frames; first += kFramesAtOnce) {
        std::vector<std::int64_t> numbers(
            static_cast<std::size_t>(std::min(kFramesAtOnce, info.num_frames - first)));
        std::iota(numbers.begin(), numbers.end(), first);
        const at::Tensor frames = media::read_video_frames(video, numbers);
        for (const std::int64_t number : numbers) {
            at::Tensor frame = frames[number - first];
            draw_frame(frame, number, tracks, num_entities, info);
            writer.write(frame);
        }
    }
    writer.finish();
}

StepResult make_overlays(const Layout& layout, const Selection& selection) {
    StepResult result{"overlay", 0, 0, {}};
    for (const std::string& type : selection.data_types) {
        std::vector<Scenario> scenarios;
        try {
            scenarios = read_sound_scenarios(layout, type, "", result.left_out);
        } catch (const RunError& error) {
            result.left_out.push_back({"", type, "", error.what()});
        }
        for (const std::string& model : selection.models) {
            if (!fs::exists(layout.outputs(model, type)) && !scenarios.empty()) {
                result.left_out.push_back({model, type, "", "no videos in OUTPUTS"});
                continue;
            }
            log::Progress progress("overlay " + model + "/" + type,
                                   static_cast<std::int64_t>(scenarios.size()));
            for (std::size_t i = 0; i < scenarios.size(); ++i) {
                if (const auto signal = stop_signal()) {
                    throw Stopped{*signal};
                }
                const LeftOut place{model, type, scenarios[i].id, ""};
                try {
                    overlay_one(layout, place, scenarios[i], result);
                } catch (const RunError& error) {
                    result.left_out.push_back({model, type, scenarios[i].id, error.what()});
                }
                progress.update(static_cast<std::int64_t>(i) + 1);
            }
        }
    }
    return result;
}

}  // namespace matrix::eval
