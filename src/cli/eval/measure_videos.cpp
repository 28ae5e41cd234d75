#include "cli/eval/measure_videos.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "matrix/core/error.h"
#include "matrix/core/signals.h"
#include "matrix/eval/mask_metrics.h"
#include "matrix/log/progress.h"
#include "matrix/media/geometry.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

// The layout is InterGenEval's: EVAL_DATA/TYPE/images, OUTPUTS/MODEL/TYPE,
// EVAL_RESULTS/MODEL/TYPE/tracks.

namespace matrix::cli::eval {
namespace {

namespace fs = std::filesystem;
using matrix::eval::Layout;
using nlohmann::ordered_json;

std::set<std::string> folders_in(const fs::path& folder) {
    std::set<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        std::error_code ignored;
        if (it->is_directory(ignored) && !it->path().filename().string().starts_with('.')) {
            names.insert(it->path().filename().string());
        }
    }
    return names;
}

std::vector<fs::path> files_in(const fs::path& folder, const std::string& extension) {
    std::vector<fs::path> files;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        if (it->path().extension() == extension &&
            !it->path().filename().string().starts_with('.')) {
            files.push_back(it->path());
        }
    }
    std::ranges::sort(files);
    return files;
}

/// 3 for id3 and <id3>, as in a data set's mask_annotation; 0 for another name.
std::size_t track_number(std::string name) {
    if (name.starts_with('<') && name.ends_with('>')) {
        name = name.substr(1, name.size() - 2);
    }
    std::size_t number = 0;
    if (name.starts_with("id")) {
        std::from_chars(name.data() + 2, name.data() + name.size(), number);
    }
    return name == "id" + std::to_string(number) ? number : 0;
}

std::string pixels(std::int64_t height, std::int64_t width) {
    return std::to_string(width) + " x " + std::to_string(height) + " pixels";
}

std::set<std::string> joined(std::set<std::string> a, const std::set<std::string>& b) {
    a.insert(b.begin(), b.end());
    return a;
}

class Measuring {
public:
    explicit Measuring(const Layout& layout) : layout_(layout) {}

    [[nodiscard]] Measured run() {
        std::vector<VideoRow> wanted;
        for (const auto& model : joined(folders_in(layout_.root / "OUTPUTS"),
                                        folders_in(layout_.root / "EVAL_RESULTS"))) {
            for (const auto& type : joined(folders_in(layout_.root / "OUTPUTS" / model),
                                           folders_in(layout_.root / "EVAL_RESULTS" / model))) {
                for (const auto& video : videos_of(model, type)) {
                    wanted.push_back({model, type, video, {}, ordered_json::object()});
                }
            }
        }
        if (wanted.empty()) {
            throw RunError(layout_.root.string() +
                           ": holds neither OUTPUTS/MODEL/TYPE/NNN.mp4 nor "
                           "EVAL_RESULTS/MODEL/TYPE/tracks/NNN");
        }
        log::Progress progress("videos", static_cast<std::int64_t>(wanted.size()));
        for (VideoRow& row : wanted) {
            if (const auto signal = stop_signal()) {
                throw Stopped{*signal};
            }
            collect([&] { measure_tracks(row); });
            collect([&] { measure_first_frame(row); });
            measured_.rows.push_back(std::move(row));
            progress.update(static_cast<std::int64_t>(measured_.rows.size()));
        }
        return std::move(measured_);
    }

private:
    [[nodiscard]] fs::path tracks_of(const VideoRow& row) const {
        return layout_.results(row.model, row.data_type) / "tracks" / row.video;
    }

    /// All that a model should have: every first frame, and whatever else is there.
    [[nodiscard]] std::set<std::string> videos_of(const std::string& model,
                                                  const std::string& type) const {
        std::set<std::string> names = folders_in(layout_.results(model, type) / "tracks");
        for (const fs::path& file : files_in(layout_.outputs(model, type), ".mp4")) {
            names.insert(file.stem().string());
        }
        for (const fs::path& file : files_in(layout_.data(type) / "images", ".png")) {
            names.insert(file.stem().string());
        }
        return names;
    }

    void collect(auto&& step) {
        try {
            step();
        } catch (const RunError& error) {
            measured_.faults.insert(measured_.faults.end(), error.faults().begin(),
                                    error.faults().end());
        }
    }

    /// How many objects meta.json has for a video, if it is there and has the video.
    [[nodiscard]] std::optional<std::size_t> objects_of(const VideoRow& row) {
        const auto [place, is_new] = objects_.try_emplace(row.data_type);
        if (is_new && fs::exists(layout_.data(row.data_type) / "meta.json")) {
            collect([&, &counts = place->second] {
                for (const auto& scenario : matrix::eval::read_scenarios(layout_, row.data_type)) {
                    counts[scenario.id] = scenario.entities.size();
                }
            });
        }
        const auto count = place->second.find(row.video);
        return count == place->second.end() ? std::nullopt : std::optional(count->second);
    }

    /// Folders of the instances by number; a line for each that is missing or none of them.
    std::map<std::size_t, fs::path> find_tracks(const VideoRow& row) {
        const fs::path folder = tracks_of(row);
        const std::set<std::string> names = folders_in(folder);
        if (names.empty()) {
            throw RunError(folder.string() + ": missing, or without folders such as id1");
        }
        std::map<std::size_t, fs::path> tracks;
        const auto objects = objects_of(row);
        const std::string has = "meta.json has " + std::to_string(objects.value_or(0)) + " objects";
        for (const std::string& name : names) {
            const fs::path track = folder / name;
            const std::size_t number = track_number(name);
            if (name == "merged") {  // all instances in one picture, as a data set has it
                continue;
            }
            if (number == 0) {
                measured_.faults.push_back(track.string() +
                                           ": is no track, which are id1, id2, ...");
            } else if (objects && number > *objects) {
                measured_.faults.push_back(track.string() + ": " + has);
            } else if (!tracks.emplace(number, track).second) {
                measured_.faults.push_back(track.string() + ": stands beside " +
                                           tracks[number].string());
            }
        }
        for (std::size_t number = 1; number <= objects.value_or(0); ++number) {
            if (!tracks.contains(number)) {
                measured_.faults.push_back((folder / ("id" + std::to_string(number))).string() +
                                           ": missing, " + has);
            }
        }
        return tracks;
    }

    /// Nothing where there is no video that can be read, which its first frame's line says.
    [[nodiscard]] std::optional<media::VideoInfo> video_of(const VideoRow& row) const {
        try {
            return media::probe_video(layout_.output(row.model, row.data_type, row.video));
        } catch (const RunError&) {
            return std::nullopt;
        }
    }

    /// [frames, H, W], of a mask for every frame.
    static at::Tensor read_track(const fs::path& folder,
                                 const std::optional<media::VideoInfo>& video) {
        const auto count = static_cast<std::int64_t>(files_in(folder, ".png").size());
        if (count == 0) {
            throw RunError(folder.string() + ": holds no masks (.png)");
        }
        if (video && count != video->num_frames) {
            throw RunError(folder.string() + ": holds " + std::to_string(count) +
                           " masks, the video has " + std::to_string(video->num_frames) +
                           " frames");
        }
        std::vector<at::Tensor> masks;  // [H, W]
        for (std::int64_t frame = 0; frame < count; ++frame) {
            const fs::path file =
                folder / (matrix::eval::video_id(static_cast<std::size_t>(frame)) + ".png");
            if (!fs::exists(file)) {
                throw RunError(file.string() + ": missing, though masks of later frames are there");
            }
            masks.push_back(media::read_mask(file));
            const std::int64_t height = video ? video->height_px : masks.front().size(0);
            const std::int64_t width = video ? video->width_px : masks.front().size(1);
            if (masks.back().size(0) != height || masks.back().size(1) != width) {
                throw RunError(
                    file.string() + ": has " + pixels(masks.back().size(0), masks.back().size(1)) +
                    (video ? ", the video " : ", the masks before it ") + pixels(height, width));
            }
        }
        return at::stack(masks);
    }

    void measure_tracks(VideoRow& row) {
        std::map<std::string, std::vector<double>> values;
        std::map<std::string, std::int64_t> lengths;
        const std::optional<media::VideoInfo> video = video_of(row);
        for (const auto& [number, track] : find_tracks(row)) {
            collect([&, &track = track] {
                const matrix::eval::TrackMetrics found =
                    matrix::eval::measure_track(read_track(track, video));
                const std::string id = track.filename().string();
                lengths[id] = found.num_frames;
                add(found, values, row.tracks[id]);
            });
        }
        for (const auto& [name, list] : values) {
            double sum = 0.0;
            for (const double value : list) {
                sum += value;
            }
            const bool is_mean = name == "consistency" || name == "area_change";
            row.values[name] = is_mean ? sum / static_cast<double>(list.size()) : sum;
        }
        for (const auto& [id, length] : lengths) {
            if (length != lengths.begin()->second) {
                throw RunError((tracks_of(row) / id).string() + ": holds " +
                               std::to_string(length) + " masks, " + lengths.begin()->first +
                               " beside it " + std::to_string(lengths.begin()->second));
            }
        }
    }

    static void add(const matrix::eval::TrackMetrics& found,
                    std::map<std::string, std::vector<double>>& values, ordered_json& out) {
        const auto put = [&](const char* name, std::optional<double> value) {
            out[name] = value ? ordered_json(*value) : ordered_json();
            if (value) {
                values[name].push_back(*value);
            }
        };
        out["frames"] = found.num_frames;
        out["visible_frames"] = found.num_visible;
        put("consistency", found.consistency);
        put("area_change", found.area_change);
        put("vanishings", static_cast<double>(found.num_vanishings));
        put("vanished_frames", static_cast<double>(found.num_vanished_frames));
        put("ends_vanished", found.ends_vanished ? 1.0 : 0.0);
        put("duplications", static_cast<double>(found.num_duplications));
        put("duplicated_frames", static_cast<double>(found.num_duplicated_frames));
    }

    void measure_first_frame(VideoRow& row) {
        const fs::path image_file = layout_.data(row.data_type) / "images" / (row.video + ".png");
        const fs::path video_file = layout_.output(row.model, row.data_type, row.video);
        at::Tensor frame, image;
        collect([&] { frame = media::read_video_frames(video_file, {0})[0].contiguous(); });
        collect([&] { image = media::read_image(image_file); });
        if (!frame.defined() || !image.defined()) {
            return;
        }
        if (frame.size(0) < 11 || frame.size(1) < 11) {
            throw RunError(video_file.string() + ": is smaller than SSIM's window of 11 x 11");
        }
        if (image.sizes() != frame.sizes()) {  // as the pipelines bring an image to a video's size
            image = media::resize_lanczos(image, frame.size(0), frame.size(1));
        }
        const matrix::eval::Fidelity found =
            matrix::eval::compare_pictures(image.contiguous(), frame);
        row.values["psnr_db"] = found.psnr_db;
        row.values["ssim"] = found.ssim;
    }

    Layout layout_;
    Measured measured_;
    std::map<std::string, std::map<std::string, std::size_t>> objects_;  ///< by data type and video
};

}  // namespace

Measured measure_videos(const Layout& layout) {
    return Measuring(layout).run();
}

}  // namespace matrix::cli::eval
