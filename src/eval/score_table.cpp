#include "matrix/eval/score_table.h"

#include <algorithm>
#include <map>
#include <optional>

#include "eval/json_reading.h"
#include "eval/question_files.h"
#include "eval/result_entries.h"
#include "eval/sound_scenarios.h"
#include "matrix/core/error.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

/// What a video is expected to be judged by.
struct Expected {
    std::string prompt;
    std::optional<Scenario> scenario;  ///< where meta.json has it
};

std::string prompt_of(const Json& entry) {
    return entry.contains("prompt") ? text_of(entry, "prompt", "its result") : "";
}

void expect_sound(const Json& entry, const Expected& expected) {
    if (!entry.value("error", Json()).is_null()) {
        throw RunError("its result says error");
    }
    if (prompt_of(entry) != expected.prompt) {
        throw RunError("judged by another prompt than it has now");
    }
    if (expected.scenario && !is_of_objects(entry, *expected.scenario)) {
        throw RunError("judged by other objects than it has now");
    }
}

using Entries = std::map<std::string, Json>;

Entries read_entries(const fs::path& path) {
    Entries entries;
    if (fs::exists(path)) {
        const Json file = read_json(path);
        for (const Json& entry : expect_array(file, path.string())) {
            const std::string id = text_of(entry, "video_id", path.string());
            if (!entries.emplace(id, entry).second) {
                throw RunError(path.string() + ": video " + id + " stands twice");
            }
        }
    }
    return entries;
}

/// Videos by id, of meta.json and of both results; those whose scenario is malformed go to
/// `faults`.
std::map<std::string, Expected> expected_videos(const Layout& layout, const FolderScores& folder,
                                                const Entries& answers, const Entries& flags,
                                                std::vector<LeftOut>& faults) {
    std::map<std::string, Expected> videos;
    for (const Entries* entries : {&answers, &flags}) {
        for (const auto& [id, entry] : *entries) {
            const Json prompt = entry.value("prompt", Json());
            videos.emplace(id, Expected{prompt.is_string() ? prompt.get<std::string>() : "", {}});
        }
    }
    if (fs::exists(layout.data(folder.data_type) / "meta.json")) {
        std::vector<LeftOut> malformed;
        for (const Scenario& scenario :
             read_sound_scenarios(layout, folder.data_type, folder.model, malformed)) {
            videos[scenario.id] = {scenario.prompt, scenario};
        }
        for (LeftOut& left : malformed) {
            videos.erase(left.video);
            faults.push_back(std::move(left));
        }
    }
    return videos;
}

std::string missing(bool has_answers, bool has_flags) {
    if (!has_answers && !has_flags) {
        return "no answers and no emergence result";
    }
    return has_answers ? "answers, but no emergence result" : "an emergence result, but no answers";
}

VideoScore score_video(const std::string& id, const Expected& expected, const Entries& answers,
                       const Entries& flags, const ScoreOptions& options, std::string& reason,
                       std::vector<std::string>& notes) {
    VideoScore video{id, expected.prompt, {}, {}, {}, {}};
    const auto asked = answers.find(id);
    const auto judged = flags.find(id);
    if (asked == answers.end() || judged == flags.end()) {
        reason = missing(asked != answers.end(), judged != flags.end());
    }
    try {
        if (asked != answers.end()) {
            expect_sound(asked->second, expected);
            read_answers_of(asked->second, video, options);
        }
        if (judged != flags.end()) {
            expect_sound(judged->second, expected);
            read_flags_of(judged->second, video, options, notes);
        }
    } catch (const RunError& error) {
        reason = error.what();
    }
    if (video.raw && video.propagation) {
        video.fidelity = combine(video.raw->kisa, video.raw->sgi, video.propagation->spi);
    }
    return video;
}

void note(const VideoScore& video, std::vector<std::string>& notes) {
    if (video.propagation && video.propagation->frames == 0) {
        notes.push_back("fewer than two frames, so that SPI and all scores are 0");
    }
    if (video.raw && video.raw->missing > 0) {
        notes.push_back("questions without an answer: " + std::to_string(video.raw->missing));
    }
}

void score_folder(const Layout& layout, FolderScores folder, ScoreTable& table) {
    const fs::path answer_file = layout.answers(folder.model, folder.data_type);
    const fs::path flag_file = layout.emergence(folder.model, folder.data_type);
    const fs::path places[] = {answer_file, flag_file,
                               layout.results(folder.model, folder.data_type),
                               layout.outputs(folder.model, folder.data_type)};
    if (std::none_of(std::begin(places), std::end(places),
                     [](const fs::path& place) { return fs::exists(place); })) {
        throw RunError("no results of this model for this data type");
    }
    const Entries answers = read_entries(answer_file);
    const Entries flags = read_entries(flag_file);
    const bool has_meta = fs::exists(layout.data(folder.data_type) / "meta.json");
    for (const auto& [id, expected] :
         expected_videos(layout, folder, answers, flags, table.left_out)) {
        std::string reason;
        std::vector<std::string> notes;
        folder.videos.push_back(
            score_video(id, expected, answers, flags, table.options, reason, notes));
        note(folder.videos.back(), notes);
        if (has_meta && !expected.scenario && folder.videos.back().fidelity) {
            notes.emplace_back("counts, though meta.json has no such video");
        }
        for (const std::string& line : notes) {
            table.notes.push_back(LeftOut{folder.model, folder.data_type, id, line}.line());
        }
        if (!reason.empty()) {
            table.left_out.push_back({folder.model, folder.data_type, id, reason});
        }
    }
    table.folders.push_back(std::move(folder));
}

/// Sums of what an average is made of.
struct Sum {
    std::size_t videos = 0;
    double kisa = 0.0, sgi = 0.0, fidelity = 0.0, raw_kisa = 0.0, raw_sgi = 0.0, spi = 0.0;

    void add(const VideoScore& video) {
        if (!video.fidelity) {
            return;
        }
        ++videos;
        kisa += video.fidelity->kisa;
        sgi += video.fidelity->sgi;
        fidelity += video.fidelity->fidelity;
        raw_kisa += video.raw->kisa;
        raw_sgi += video.raw->sgi;
        spi += video.propagation->spi;
    }
    [[nodiscard]] Average average() const {
        if (videos == 0) {
            return {};
        }
        const auto n = static_cast<double>(videos);
        return {videos, kisa / n, sgi / n, fidelity / n, raw_kisa / n, raw_sgi / n, spi / n};
    }
};

}  // namespace

ScoreTable score(const Layout& layout, const Selection& selection, const ScoreOptions& options) {
    ScoreTable table{options, {}, {}, {}};
    for (const std::string& model : selection.models) {
        for (const std::string& type : selection.data_types) {
            try {
                score_folder(layout, {model, type, {}}, table);
            } catch (const RunError& error) {
                table.left_out.push_back({model, type, "", error.what()});
            }
        }
    }
    return table;
}

std::vector<ModelAverage> averages(const ScoreTable& table) {
    std::map<std::string, Sum> sums;
    std::map<std::string, std::vector<TypeAverage>> types;
    for (const FolderScores& folder : table.folders) {
        Sum own;
        for (const VideoScore& video : folder.videos) {
            own.add(video);
            sums[folder.model].add(video);
        }
        types[folder.model].push_back({folder.data_type, own.average()});
    }
    std::vector<ModelAverage> result;
    for (const auto& [model, own] : types) {
        result.push_back({model, sums[model].average(), own});
    }
    std::stable_sort(result.begin(), result.end(),
                     [](const ModelAverage& a, const ModelAverage& b) {
                         return a.average.fidelity > b.average.fidelity;  // an empty one is least
                     });
    return result;
}

}  // namespace matrix::eval
