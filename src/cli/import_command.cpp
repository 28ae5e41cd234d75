#include <CLI/CLI.hpp>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/import/import.h"
#include "matrix/core/error.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"

namespace matrix::cli {
namespace {

using imports::ImportedClip;
using imports::ImportOptions;
using imports::ImportReport;
using nlohmann::json;

struct ImportFlags {
    std::string format, source, to, videos, captions, labels;
    std::vector<std::int64_t> ids;
    double frames_per_second = ImportOptions{}.frames_per_second;
    bool propose_roles = false;
    bool json = false;
};

void print_json(const json& result) {
    std::cout << result.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

std::string plural(std::size_t count, const std::string& word) {
    return std::to_string(count) + " " + word + (count == 1 ? "" : "s");
}

json clip_json(const ImportedClip& clip) {
    json ids = json::object();
    for (const auto& [id, instance] : clip.ids) {
        ids[std::to_string(id)] = {{"object", instance.number}, {"label", instance.label}};
    }
    return {{"name", clip.name},
            {"video", clip.video},
            {"frames", clip.num_frames},
            {"ids", ids},
            {"proposed", clip.num_proposed}};
}

void print(const ImportReport& report, const ImportFlags& flags) {
    std::size_t proposed = 0;
    json clips = json::array();
    for (const ImportedClip& clip : report.clips) {
        proposed += clip.num_proposed;
        clips.push_back(clip_json(clip));
    }
    if (flags.json) {
        print_json({{"to", flags.to},
                    {"clips", clips},
                    {"left_out", report.left_out},
                    {"notes", report.notes}});
        return;
    }
    for (const ImportedClip& clip : report.clips) {
        std::string line =
            clip.video + ": " + plural(static_cast<std::size_t>(clip.num_frames), "frame");
        for (const auto& [id, instance] : clip.ids) {
            line += ", ID " + std::to_string(id) + " is object " + std::to_string(instance.number) +
                    (instance.label.empty() ? "" : " (" + instance.label + ")");
        }
        log::debug(line);
    }
    for (const std::string& note : report.notes) {
        log::info("note: " + note);
    }
    log::info(flags.to + ": " + plural(report.clips.size(), "clip") + ", " +
              std::to_string(report.left_out.size()) + " left out" +
              (flags.propose_roles ? ", " + plural(proposed, "interaction") + " proposed" : ""));
}

void import_main(const ImportFlags& flags) {
    ImportOptions options;
    options.format = flags.format;
    options.source = flags.source;
    options.to = flags.to;
    options.videos = flags.videos;
    options.captions = flags.captions;
    options.labels = flags.labels;
    options.ids = flags.ids;
    options.frames_per_second = flags.frames_per_second;
    options.propose_roles = flags.propose_roles;
    const ImportReport report = imports::import_dataset(options);
    print(report, flags);
    std::vector<std::string> faults;
    for (const auto& [name, lines] : report.left_out) {
        faults.insert(faults.end(), lines.begin(), lines.end());
    }
    if (!faults.empty()) {
        throw RunError(faults);
    }
}

void propose_main(const ImportFlags& flags) {
    const imports::RoleReport report = imports::propose_roles(flags.source);
    const std::size_t without = report.num_clips - report.num_kept - report.num_filled;
    if (flags.json) {
        print_json({{"clips", report.num_clips},
                    {"filled", report.num_filled},
                    {"kept", report.num_kept},
                    {"without", without},
                    {"proposed", report.num_proposed}});
        return;
    }
    log::info(flags.source + ": " + plural(report.num_proposed, "interaction") + " proposed for " +
              plural(report.num_filled, "clip") + "; " + std::to_string(report.num_kept) +
              " had some, " + std::to_string(without) + " have none");
}

void check_flags(const ImportFlags& flags) {
    const bool whole = !flags.format.empty() && !flags.to.empty();
    const bool in_place = flags.format.empty() && flags.to.empty() && flags.propose_roles;
    if (!whole && !in_place) {
        throw UsageError(
            "import: needs --from and --to, or neither and --propose-roles for a data set that is "
            "in the MATRIX layout");
    }
    const bool import_only = !flags.videos.empty() || !flags.captions.empty() ||
                             !flags.labels.empty() || !flags.ids.empty();
    if (in_place && import_only) {
        throw UsageError("import: --videos, --captions, --labels and --ids need --from and --to");
    }
    std::vector<std::int64_t> ids = flags.ids;
    std::ranges::sort(ids);
    if (ids.size() > 5 || std::ranges::adjacent_find(ids) != ids.end()) {
        throw UsageError("import: --ids takes at most five objects, each once");
    }
}

}  // namespace

void add_import_command(CLI::App& app, Action& action) {
    auto flags = std::make_shared<ImportFlags>();
    CLI::App* command = app.add_subcommand(
        "import", "Bring what segmenters write into the MATRIX layout; propose roles");
    command
        ->add_option("SOURCE", flags->source, "What the segmenter wrote: a folder or a JSON file")
        ->type_name("")
        ->required();
    command->add_option("--from", flags->format, "sam2, davis, coco or groundingdino")
        ->check(CLI::IsMember({"sam2", "davis", "coco", "groundingdino"}));
    command->add_option("--to", flags->to, "Directory to create");
    command->add_option("--videos", flags->videos,
                        "Where videos NAME.mp4 or folders of pictures NAME are");
    command->add_option(
        "--captions", flags->captions,
        "Rows with video and prompt (.jsonl, .json, .csv), or {\"NAME\": \"caption\"}");
    command->add_option("--labels", flags->labels,
                        "Class names of the objects: GroundingDINO's JSON");
    command->add_option("--ids", flags->ids, "Objects that become ID 1, 2, ... (at most five)")
        ->delimiter(',');
    command->add_option("--fps", flags->frames_per_second, "Rate of videos made of pictures")
        ->check(CLI::Range(0.1, 240.0))
        ->capture_default_str();
    command->add_flag("--propose-roles", flags->propose_roles,
                      "Fill interactions that are missing from <idN> markers, marked as proposed");
    command->add_flag("--json", flags->json, "Print what was done as JSON");
    command->footer(
        "Example:\n  matrix import --from davis DAVIS --captions captions.json --to data/davis\n"
        "  matrix import --propose-roles data/davis");
    add_verbosity_flags(*command);
    command->callback([flags, &action] {
        action = [flags] {
            check_flags(*flags);
            install_stop_signals();
            if (flags->format.empty()) {
                propose_main(*flags);
            } else {
                import_main(*flags);
            }
        };
    });
}

}  // namespace matrix::cli
