#include "matrix/analysis/tables.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <initializer_list>

#include "matrix/core/markup.h"

namespace matrix::analysis {
namespace {

using Json = nlohmann::ordered_json;

std::string number(double value) {
    if (std::isnan(value)) {
        return "";
    }
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
}

std::string line(std::initializer_list<std::string> fields) {
    std::string text;
    for (const std::string& field : fields) {
        text += (text.empty() ? "" : ",") + field;
    }
    return text + "\r\n";
}

/// "entity,...,range,step,timestep,layer,8 metrics" of [S, l, 8].
void append_scores(std::string& text, const std::string& begin, const VideoRecord& record,
                   const at::Tensor& scores) {
    const at::Tensor values = scores.contiguous();
    const double* value = values.const_data_ptr<double>();
    for (std::size_t step = 0; step < record.timesteps.size(); ++step) {
        for (std::int64_t layer = 0; layer < values.size(1); ++layer) {
            text += begin + ',' + std::to_string(step) + ',' +
                    std::to_string(record.timesteps[step]) + ',' + std::to_string(layer);
            for (std::size_t i = 0; i < kMetricNames.size(); ++i) {
                text += ',' + number(*value++);
            }
            text += "\r\n";
        }
    }
}

Json nullable(double value) {
    return std::isnan(value) ? Json(nullptr) : Json(value);
}

Json clips_json(const std::vector<VideoRecord>& records) {
    Json clips = Json::array();
    for (const VideoRecord& record : records) {
        Json entities = Json::array();
        for (const Entity& entity : record.entities) {
            entities.push_back({{"name", entity.name},
                                {"word", entity.word},
                                {"kind", entity.verb ? "verb" : "noun"},
                                {"v2t", entity.has_tokens()},
                                {"v2v", entity.has_first_cells()}});
        }
        clips.push_back(
            {{"video", record.video}, {"prompt", record.prompt}, {"entities", entities}});
    }
    return clips;
}

Json variant_json(const VariantSummary& summary) {
    Json influence = Json::array(), dominance = Json::array(), scores = Json::object();
    for (const LayerInfluence& layer : summary.influence) {
        const LayerVariance& variance = summary.variances[static_cast<std::size_t>(layer.layer)];
        influence.push_back({{"layer", layer.layer},
                             {"frequency", layer.frequency},
                             {"magnitude", nullable(layer.magnitude)},
                             {"rank_sum", layer.rank_sum},
                             {"influential", layer.influential},
                             {"variance", nullable(variance.variance)},
                             {"dummy", layer.dummy}});
    }
    for (const LayerDominance& layer : summary.dominance) {
        dominance.push_back({{"layer", layer.layer},
                             {"gap_success", layer.gap_success},
                             {"gap_failure", layer.gap_failure},
                             {"separation", layer.separation},
                             {"dominant", layer.dominant}});
    }
    for (std::size_t v = 0; v < summary.scores.videos.size(); ++v) {
        Json& row = scores[summary.scores.videos[v]] = Json::array();
        for (const double value : summary.scores.values[v]) {
            row.push_back(nullable(value));
        }
    }
    return {{"layers", summary.choice.layers},
            {"reason", summary.choice.reason},
            {"influence", influence},
            {"dominance", dominance},
            {"scores", scores}};
}

}  // namespace

std::string scores_csv(const std::vector<VideoRecord>& records) {
    std::string text = "video,entity,word,kind,path,range,step,timestep,layer";
    for (const std::string_view name : kMetricNames) {
        text += ',' + std::string(name);
    }
    text += "\r\n";
    for (const VideoRecord& record : records) {
        for (std::size_t i = 0; i < record.entities.size(); ++i) {
            const Entity& entity = record.entities[i];
            const auto e = static_cast<std::int64_t>(i);
            const std::string begin = csv_cell(record.video) + ',' + entity.name + ',' +
                                      csv_cell(entity.word) + ',' + (entity.verb ? "verb" : "noun");
            append_scores(text, begin + ",v2t,whole", record, record.v2t_scores[e]);
            for (std::size_t range = 0; range < kRangeNames.size(); ++range) {
                append_scores(text, begin + ",v2v," + std::string(kRangeNames[range]), record,
                              record.v2v_scores[e].select(2, static_cast<std::int64_t>(range)));
            }
        }
    }
    return text;
}

std::string influence_csv(const VariantSummary& summary) {
    std::string text = line({"layer", "frequency", "magnitude", "frequency_rank", "magnitude_rank",
                             "rank_sum", "influential", "dummy"});
    for (const LayerInfluence& layer : summary.influence) {
        const auto rank = [&](double value) { return value == 0 ? "" : number(value); };
        text +=
            line({std::to_string(layer.layer), std::to_string(layer.frequency),
                  number(layer.magnitude), rank(layer.frequency_rank), rank(layer.magnitude_rank),
                  rank(layer.rank_sum), layer.influential ? "1" : "0", layer.dummy ? "1" : "0"});
    }
    return text;
}

std::string dominance_csv(const VariantSummary& summary) {
    std::string text = line({"layer", "gap_success", "gap_failure", "separation", "dominant"});
    for (const LayerDominance& layer : summary.dominance) {
        text +=
            line({std::to_string(layer.layer), number(layer.gap_success), number(layer.gap_failure),
                  number(layer.separation), layer.dominant ? "1" : "0"});
    }
    return text;
}

std::string variance_csv(const VariantSummary& summary) {
    std::string text = line({"layer", "mean", "variance", "dummy"});
    for (const LayerVariance& layer : summary.variances) {
        text += line({std::to_string(layer.layer), number(layer.mean), number(layer.variance),
                      layer.dummy ? "1" : "0"});
    }
    return text;
}

nlohmann::ordered_json summary_json(const std::vector<VideoRecord>& records,
                                    const Summary& summary) {
    Json variants = Json::object();
    for (std::size_t i = 0; i < kVariants.size(); ++i) {
        variants[std::string(kVariants[i].name)] = variant_json(summary.variants[i]);
    }
    return {{"clips", clips_json(records)},
            {"timesteps", summary.timesteps},
            {"num_layers", summary.num_layers},
            {"variants", variants},
            {"layers", {{"sga", summary.sga_blocks}, {"spa", summary.spa_blocks}}}};
}

}  // namespace matrix::analysis
