#include <cmath>

#include "eval/json_reading.h"
#include "matrix/eval/score_table.h"

namespace matrix::eval {
namespace {

Json number(const std::optional<double>& value) {
    return value ? Json(*value) : Json();
}

/// In percent, one decimal.
double percentage(double share) {
    return std::round(share * 1000.0) / 10.0;
}

Json raw_entry(const VideoScore& video) {
    const RawScores& raw = *video.raw;
    return {{"prompt", video.prompt},
            {"yes_count", raw.yes},
            {"total_questions", raw.total},
            {"score", raw.all},
            {"score_percentage", percentage(raw.all)},
            {"interaction_score", raw.kisa},
            {"interaction_score_percentage", percentage(raw.kisa)},
            {"grounding_score", raw.sgi},
            {"grounding_score_percentage", percentage(raw.sgi)}};
}

/// video_scores.json: before SPI, one model on one data type.
Json raw_file(const FolderScores& folder) {
    Json videos = Json::object();
    std::int64_t yes = 0, total = 0;
    double all = 0.0, kisa = 0.0, sgi = 0.0;
    for (const VideoScore& video : folder.videos) {
        if (video.raw) {
            videos[video.id] = raw_entry(video);
            yes += video.raw->yes;
            total += video.raw->total;
            all += video.raw->all;
            kisa += video.raw->kisa;
            sgi += video.raw->sgi;
        }
    }
    Json overall = {
        {"total_videos", videos.size()}, {"total_questions", total}, {"total_yes_answers", yes}};
    const auto add = [&](const std::string& name, const std::string& percent, double sum) {
        const double mean = sum / static_cast<double>(videos.size());
        overall[name] = videos.empty() ? Json() : Json(mean);
        overall[percent] = videos.empty() ? Json() : Json(percentage(mean));
    };
    add("overall_average_score", "overall_average_percentage", all);
    add("average_interaction_score", "average_interaction_score_percentage", kisa);
    add("average_grounding_score", "average_grounding_score_percentage", sgi);
    return {{"video_scores", std::move(videos)}, {"overall_statistics", std::move(overall)}};
}

Json raw_summary(const VideoScore& video) {
    return video.raw ? Json{{"prompt", video.prompt},
                            {"KISA_score", video.raw->kisa},
                            {"SGA_score", video.raw->sgi}}
                     : Json();
}

Json propagation_summary(const VideoScore& video) {
    if (!video.propagation) {
        return {};
    }
    const Propagation& p = *video.propagation;
    return {{"emergence_score", p.emergence},
            {"disappearance_score", p.disappearance},
            {"frames_analyzed", p.frames},
            {"emergence_yes_count", p.emergence_count},
            {"disappearance_yes_count", p.disappearance_count},
            {"SPI_score", p.spi}};
}

Json combined_summary(const VideoScore& video) {
    if (!video.fidelity) {
        return {};
    }
    return {{"prompt", video.prompt},
            {"KISA_score", video.raw->kisa},
            {"SGA_score", video.raw->sgi},
            {"SPI_score", video.propagation->spi},
            {"KISA_SPI", video.fidelity->kisa},
            {"SGA_SPI", video.fidelity->sgi},
            {"IF_score", video.fidelity->fidelity}};
}

/// {model: {data type: {video: entry}}}; videos whose entry is null are not in it.
template <typename Entry>
Json summary(const ScoreTable& table, Entry&& entry) {
    Json models = Json::object();
    for (const FolderScores& folder : table.folders) {
        Json videos = Json::object();
        for (const VideoScore& video : folder.videos) {
            if (Json made = entry(video); !made.is_null()) {
                videos[video.id] = std::move(made);
            }
        }
        models[folder.model][folder.data_type] = std::move(videos);
    }
    return models;
}

Json average_summary(const ScoreTable& table) {
    Json models = Json::object();
    for (const ModelAverage& model : averages(table)) {
        Json types = Json::object();
        for (const TypeAverage& type : model.types) {
            types[type.data_type] = {{"video_count", type.average.videos},
                                     {"avg_KISA_SPI", number(type.average.kisa)},
                                     {"avg_SGA_SPI", number(type.average.sgi)},
                                     {"avg_IF_score", number(type.average.fidelity)}};
        }
        models[model.model] = {{"total_videos", model.average.videos},
                               {"overall_avg_KISA_SPI", number(model.average.kisa)},
                               {"overall_avg_SGA_SPI", number(model.average.sgi)},
                               {"overall_avg_IF_score", number(model.average.fidelity)},
                               {"sample_type_breakdown", std::move(types)}};
    }
    return models;
}

}  // namespace

void write_score_files(const Layout& layout, const ScoreTable& table) {
    for (const FolderScores& folder : table.folders) {
        write_json(layout.video_scores(folder.model, folder.data_type), raw_file(folder));
    }
    const auto path = [&](const char* name) { return layout.scores() / name; };
    write_json(path("emergence_disappearance_scores_summary.json"),
               summary(table, propagation_summary));
    write_json(path("video_scores_summary.json"), summary(table, raw_summary));
    write_json(path("combined_scores_summary.json"), summary(table, combined_summary));
    write_json(path("model_averages_summary.json"), average_summary(table));
}

}  // namespace matrix::eval
