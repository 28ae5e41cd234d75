#include <ATen/ATen.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/eval/commands.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/markup.h"
#include "matrix/core/signals.h"
#include "matrix/eval/layout.h"
#include "matrix/eval/mask_metrics.h"
#include "matrix/log/log.h"
#include "matrix/log/progress.h"
#include "matrix/media/geometry.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

// The layout is InterGenEval's: EVAL_DATA/TYPE/images, OUTPUTS/MODEL/TYPE,
// EVAL_RESULTS/MODEL/TYPE/tracks.

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// The columns of a video's row, in order; a value that could not be had is null.
constexpr const char* kColumns[] = {"consistency",       "area_change",   "vanishings",
                                    "vanished_frames",   "ends_vanished", "duplications",
                                    "duplicated_frames", "psnr_db",       "ssim"};

struct VideoRow {
    std::string model, data_type, video;
    std::map<std::string, double> values;  ///< counts are sums, the others means over the tracks
    ordered_json tracks = ordered_json::object();
};

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

std::set<std::string> joined(std::set<std::string> a, const std::set<std::string>& b) {
    a.insert(b.begin(), b.end());
    return a;
}

class Measuring {
public:
    explicit Measuring(const fs::path& root) : layout_{root} {}

    void run() {
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
            rows.push_back(std::move(row));
            progress.update(static_cast<std::int64_t>(rows.size()));
        }
    }

    std::vector<VideoRow> rows;
    std::vector<std::string> faults;

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
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        }
    }

    static at::Tensor read_track(const fs::path& folder) {
        std::vector<at::Tensor> masks;  // [H, W]
        for (const fs::path& file : files_in(folder, ".png")) {
            masks.push_back(media::read_mask(file));
            if (masks.back().sizes() != masks.front().sizes()) {
                throw RunError(file.string() + ": has another size than the masks before it");
            }
        }
        if (masks.empty()) {
            throw RunError(folder.string() + ": holds no masks (.png)");
        }
        return at::stack(masks);
    }

    void measure_tracks(VideoRow& row) {
        const fs::path folder = tracks_of(row);
        const std::set<std::string> ids = folders_in(folder);
        if (ids.empty()) {
            throw RunError(folder.string() + ": missing, or without folders such as id1");
        }
        std::map<std::string, std::vector<double>> values;
        std::map<std::string, std::int64_t> lengths;
        for (const std::string& id : ids) {
            collect([&] {
                const matrix::eval::TrackMetrics found =
                    matrix::eval::measure_track(read_track(folder / id));
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
                throw RunError((folder / id).string() + ": holds " + std::to_string(length) +
                               " masks, " + lengths.begin()->first + " beside it " +
                               std::to_string(lengths.begin()->second));
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

    matrix::eval::Layout layout_;
};

ordered_json values_json(const std::map<std::string, double>& values) {
    ordered_json out = ordered_json::object();
    for (const char* column : kColumns) {
        const auto it = values.find(column);
        out[column] = it == values.end() ? ordered_json() : ordered_json(it->second);
    }
    return out;
}

/// Means over those videos that have the value.
ordered_json means_json(const std::vector<const VideoRow*>& rows) {
    std::map<std::string, double> means;
    ordered_json out = {{"videos", rows.size()}};
    for (const char* column : kColumns) {
        double sum = 0.0;
        std::size_t count = 0;
        for (const VideoRow* row : rows) {
            if (const auto it = row->values.find(column); it != row->values.end()) {
                sum += it->second;
                ++count;
            }
        }
        if (count > 0) {
            means[column] = sum / static_cast<double>(count);
        }
    }
    out.update(values_json(means));
    return out;
}

ordered_json results_json(const Measuring& measured) {
    std::map<std::string, std::map<std::string, std::vector<const VideoRow*>>> by_model;
    for (const VideoRow& row : measured.rows) {
        by_model[row.model][row.data_type].push_back(&row);
    }
    ordered_json models = ordered_json::object();
    for (const auto& [model, types] : by_model) {
        std::vector<const VideoRow*> all;
        ordered_json type_json = ordered_json::object();
        for (const auto& [type, rows] : types) {
            all.insert(all.end(), rows.begin(), rows.end());
            ordered_json videos = ordered_json::object();
            for (const VideoRow* row : rows) {
                videos[row->video] = values_json(row->values);
                videos[row->video]["tracks"] = row->tracks;
            }
            type_json[type] = {{"mean", means_json(rows)}, {"videos", videos}};
        }
        models[model] = {{"mean", means_json(all)}, {"data_types", type_json}};
    }
    return {{"models", models}, {"left_out", measured.faults}};
}

std::string csv_number(const ordered_json& value) {
    return value.is_null() ? "" : value.dump();
}

std::string results_csv(const ordered_json& results) {
    std::string text = "model,data_type,video";
    for (const char* column : kColumns) {
        text += std::string(",") + column;
    }
    text += '\n';
    const auto add = [&](const std::string& names, const ordered_json& values) {
        text += names;
        for (const char* column : kColumns) {
            text += "," + csv_number(values[column]);
        }
        text += '\n';
    };
    for (const auto& [model, model_json] : results["models"].items()) {
        for (const auto& [type, type_json] : model_json["data_types"].items()) {
            for (const auto& [video, values] : type_json["videos"].items()) {
                add(csv_cell(model) + "," + csv_cell(type) + "," + csv_cell(video), values);
            }
            add(csv_cell(model) + "," + csv_cell(type) + ",mean", type_json["mean"]);
        }
        add(csv_cell(model) + ",,mean", model_json["mean"]);
    }
    return text;
}

void metrics_main(const fs::path& root, bool json) {
    Measuring measured(root);
    measured.run();
    const ordered_json results = results_json(measured);
    const fs::path folder = matrix::eval::Layout{root}.scores();
    const auto dumped = results.dump(2, ' ', false, ordered_json::error_handler_t::replace);
    write_file_atomically(folder / "mask_metrics.json", dumped + "\n");
    write_file_atomically(folder / "mask_metrics.csv", results_csv(results));
    if (json) {
        std::cout << dumped << '\n';
    } else {
        for (const auto& [model, values] : results["models"].items()) {
            log::info(model + ": " + values["mean"].dump());
        }
        log::info((folder / "mask_metrics.csv").string() +
                  ", .json: " + std::to_string(measured.rows.size()) + " videos, " +
                  std::to_string(measured.faults.size()) + " things left out");
    }
    if (!measured.faults.empty()) {
        throw RunError(measured.faults);
    }
}

}  // namespace

void add_metrics_command(CLI::App& eval, Action& action) {
    struct Flags {
        std::string root;
        bool json = false;
    };
    auto flags = std::make_shared<Flags>();
    CLI::App* command = eval.add_subcommand(
        "metrics", "Consistency of mask tracks, vanishing and doubled instances, first frames");
    command->add_option("--root", flags->root, "Directory of an evaluation")->required();
    command->add_flag("--json", flags->json, "Print the results as JSON");
    command->footer("Example:\n  matrix eval metrics --root eval");
    add_verbosity_flags(*command);
    command->callback([flags, &action] {
        action = [flags] {
            install_stop_signals();
            metrics_main(flags->root, flags->json);
        };
    });
}

}  // namespace matrix::cli
