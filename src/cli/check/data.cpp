#include <algorithm>
#include <set>

#include "cli/check/overlays.h"
#include "cli/check/report.h"
#include "cli/pictures/clips.h"
#include "cli/run_config.h"
#include "matrix/core/error.h"
#include "matrix/core/signals.h"
#include "matrix/data_source/clip.h"
#include "matrix/data_source/doctor.h"
#include "matrix/log/progress.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::cli::check {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kClipBytes =
    1ll << 30;  ///< decoded frames of one clip, without a run's own number

/// Every frame of the row's video, as far as memory goes, on a grid of which nothing is asked.
data_cache::DataConfig whole_clip(const data_source::Row& row, data_cache::DataConfig data,
                                  data_source::DatasetReport& found) {
    data.frames = 1;
    data.height = 16;
    data.width = 16;
    data.resize = "stretch";
    try {
        const media::VideoInfo info = media::probe_video(row.video_path);
        const std::int64_t fitting =
            std::max<std::int64_t>(kClipBytes / (info.width_px * info.height_px * 3), 1);
        data.frames = std::min(info.num_frames, fitting);
        if (fitting < info.num_frames) {
            found.notes.push_back(row.video_path.string() + ": frames after the first " +
                                  std::to_string(fitting) + " were not looked at");
        }
    } catch (const RunError&) {
        // The doctor says what is wrong with the file.
    }
    return data;
}

std::optional<text::T5Tokenizer> tokenizer_of(const RunConfig& config, Report& report) {
    const fs::path directory = fs::path(config.model.path) / "tokenizer";
    std::optional<text::T5Tokenizer> tokenizer;
    if (fs::exists(directory)) {
        report.collect([&] { tokenizer.emplace(directory); });
    } else {
        report.notes.push_back(directory.string() +
                               ": not there, so prompts were not held to the limit of tokens");
    }
    return tokenizer;
}

std::string plural(std::int64_t count, const std::string& word) {
    return std::to_string(count) + " " + word + (count == 1 ? "" : "s");
}

void add_counts(Report& report, const data_source::DatasetReport& found) {
    report.lines.push_back(
        plural(found.num_clips, "clip") + ", " + std::to_string(found.num_without_interactions) +
        " without interactions, " + std::to_string(found.num_without_masks) + " without masks");
    report.facts["clips"] = found.num_clips;
    report.facts["without_interactions"] = found.num_without_interactions;
    report.facts["without_masks"] = found.num_without_masks;
    report.facts["proposed"] = found.num_proposed;
    if (found.num_proposed > 0) {
        report.notes.push_back(plural(found.num_proposed, "clip") +
                               " with proposed roles: look at them (--overlays DIR), mend "
                               "`interactions`, and take \"proposed\" out");
    }
}

/// "a.png" for a.mp4; of another video with the same stem, its extension tells which.
fs::path sheet_name(const std::string& video, std::set<std::string>& taken) {
    std::string name = pictures::stem_of(video);
    while (!taken.insert(name).second) {
        name += fs::path(video).extension().string();
    }
    return name + ".png";
}

/// The number of sheets drawn. A mask that training would not read is read here: what is wrong with
/// it is a fault of the clip, a directory that cannot be written ends the check.
std::int64_t draw_overlay(const data_source::Row& row, const data_cache::DataConfig& config,
                          const fs::path& directory, std::set<std::string>& taken,
                          std::vector<std::string>& faults) {
    at::Tensor sheet;
    try {
        sheet = overlay_sheet(row, data_source::plan_clip(row, config));
    } catch (const RunError& error) {
        faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        return 0;
    }
    media::write_png(directory / sheet_name(row.video, taken), sheet);
    return 1;
}

}  // namespace

Report check_data(const fs::path& data, const fs::path& run_file, const fs::path& overlays) {
    Report report;
    report.facts["path"] = data.string();
    const bool whole = run_file.empty();
    RunConfig config = whole ? RunConfig{} : read_run_config(run_file, {});
    config.data.path = data.string();
    const std::optional<text::T5Tokenizer> tokenizer =
        whole ? std::nullopt : tokenizer_of(config, report);

    data_source::Manifest manifest;
    report.collect([&] { manifest = data_source::read_manifest(data); });
    data_source::DatasetReport found;
    found.num_clips = static_cast<std::int64_t>(manifest.rows.size());
    log::Progress progress("clips", found.num_clips);
    std::int64_t done = 0, drawn = 0;
    std::set<std::string> sheets;
    for (const data_source::Row& row : manifest.rows) {
        if (const auto signal = stop_signal()) {
            throw Stopped{*signal};
        }
        found.num_without_interactions += row.interactions.empty() ? 1 : 0;
        const data_cache::DataConfig of_row =
            whole ? whole_clip(row, config.data, found) : config.data;
        const std::size_t faults_before = found.faults.size();
        data_source::check_row(row, of_row, tokenizer ? &*tokenizer : nullptr,
                               data_source::Depth::kPixels, found);
        if (!overlays.empty() && found.faults.size() == faults_before) {
            drawn += draw_overlay(row, of_row, overlays, sheets, found.faults);
        }
        progress.update(++done);
    }
    progress.finish();
    add_counts(report, found);
    if (!overlays.empty()) {
        report.facts["overlays"] = drawn;
        report.lines.push_back(overlays.string() + ": " + plural(drawn, "sheet"));
    }
    report.notes.insert(report.notes.end(), found.notes.begin(), found.notes.end());
    report.faults.insert(report.faults.end(), found.faults.begin(), found.faults.end());
    return report;
}

}  // namespace matrix::cli::check
