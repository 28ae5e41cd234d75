#include <CLI/CLI.hpp>

#include <iostream>

#include "cli/eval/commands.h"
#include "cli/eval/measure_videos.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/markup.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;
using eval::Measured;
using eval::VideoRow;
using nlohmann::ordered_json;

/// The columns of a video's row, in order; a value that could not be had is null.
constexpr const char* kColumns[] = {"consistency",       "area_change",   "vanishings",
                                    "vanished_frames",   "ends_vanished", "duplications",
                                    "duplicated_frames", "psnr_db",       "ssim"};

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

ordered_json results_json(const Measured& measured) {
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
    const matrix::eval::Layout layout{root};
    const Measured measured = eval::measure_videos(layout);
    const ordered_json results = results_json(measured);
    const fs::path folder = layout.scores();
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
