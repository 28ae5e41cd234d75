#include "matrix/analysis/record.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/tensor_io/safetensors.h"

namespace matrix::analysis {
namespace {

constexpr const char* kMetadataKey = "matrix_analysis";

nlohmann::json about(const VideoRecord& record) {
    nlohmann::json entities = nlohmann::json::array();
    for (const Entity& entity : record.entities) {
        entities.push_back({{"name", entity.name}, {"word", entity.word}, {"verb", entity.verb}});
    }
    return {{"video", record.video},
            {"prompt", record.prompt},
            {"entities", entities},
            {"timesteps", record.timesteps},
            {"made_from", record.made_from}};
}

/// RunError unless the tensors belong together.
void check_sizes(const VideoRecord& record, const std::filesystem::path& path) {
    if (record.entities.empty()) {
        throw RunError(path.string() + ": names no entity");
    }
    const auto entities = static_cast<std::int64_t>(record.entities.size());
    const auto steps = static_cast<std::int64_t>(record.timesteps.size());
    const at::Tensor& cells = record.entities[0].cells;
    const std::int64_t layers = record.v2t.dim() == 5 ? record.v2t.size(1) : -1;
    expect_shape(record.v2t_scores, {entities, steps, layers, 8}, path.string() + ": v2t_scores");
    expect_shape(record.v2v_scores, {entities, steps, layers, 3, 8},
                 path.string() + ": v2v_scores");
    for (const auto& [name, maps] : {std::pair("v2t", record.v2t), std::pair("v2v", record.v2v)}) {
        expect_shape(maps, {entities, layers, cells.size(0), cells.size(1), cells.size(2)},
                     path.string() + ": " + name);
    }
    if (record.v2t_scores.scalar_type() != at::kDouble ||
        record.v2v_scores.scalar_type() != at::kDouble) {
        throw RunError(path.string() + ": scores are not float64");
    }
}

}  // namespace

at::Tensor VideoRecord::aas(bool of_v2v) const {
    return of_v2v ? v2v_scores.select(3, 0).select(3, kTpSum) : v2t_scores.select(3, kTpSum);
}

RecordBuilder::RecordBuilder(VideoRecord start, std::int64_t num_layers)
    : record_(std::move(start)), num_layers_(num_layers) {}

void RecordBuilder::add(std::int64_t timestep, const AttentionRecorder& recorder,
                        const std::map<std::int64_t, at::Tensor>& tap_outputs) {
    std::vector<at::Tensor> v2t_scores, v2v_scores, v2t, v2v;
    for (std::int64_t layer = 0; layer < num_layers_; ++layer) {
        const at::Tensor& maps = tap_outputs.at(layer);
        if (!maps.isfinite().all().item<bool>()) {
            throw RunError(record_.video + ": the attention of layer " + std::to_string(layer) +
                           " at timestep " + std::to_string(timestep) + " is not finite");
        }
        const LayerReading reading = recorder.read(maps);
        v2t_scores.push_back(reading.v2t_scores);
        v2v_scores.push_back(reading.v2v_scores);
        v2t.push_back(reading.v2t);
        v2v.push_back(reading.v2v);
    }
    record_.timesteps.push_back(timestep);
    v2t_scores_.push_back(at::stack(v2t_scores, 1));  // [E, l, 8]
    v2v_scores_.push_back(at::stack(v2v_scores, 1));
    const at::Tensor words = at::stack(v2t, 1), tracks = at::stack(v2v, 1);
    v2t_ = v2t_.defined() ? v2t_.add_(words) : words;
    v2v_ = v2v_.defined() ? v2v_.add_(tracks) : tracks;
}

VideoRecord RecordBuilder::finish() const {
    VideoRecord record = record_;
    const auto steps = static_cast<double>(record.timesteps.size());
    record.v2t_scores = at::stack(v2t_scores_, 1);
    record.v2v_scores = at::stack(v2v_scores_, 1);
    record.v2t = v2t_.div(steps).to(at::kFloat);
    record.v2v = v2v_.div(steps).to(at::kFloat);
    return record;
}

void write_record(const std::filesystem::path& path, const VideoRecord& record) {
    std::vector<at::Tensor> tokens, cells;
    for (const Entity& entity : record.entities) {
        tokens.push_back(entity.tokens.to(at::kByte));
        cells.push_back(entity.cells.to(at::kByte));
    }
    tensor_io::write_safetensors(path,
                                 {{"tokens", at::stack(tokens)},
                                  {"cells", at::stack(cells)},
                                  {"v2t_scores", record.v2t_scores},
                                  {"v2v_scores", record.v2v_scores},
                                  {"v2t", record.v2t},
                                  {"v2v", record.v2v}},
                                 {{kMetadataKey, about(record).dump()}});
}

VideoRecord read_record(const std::filesystem::path& path) {
    const tensor_io::SafetensorsFile file(path);
    const auto found = file.metadata().find(kMetadataKey);
    if (found == file.metadata().end()) {
        throw RunError(path.string() + ": is no record of an analysis");
    }
    try {
        const nlohmann::json about = nlohmann::json::parse(found->second);
        VideoRecord record;
        record.video = about.at("video");
        record.prompt = about.at("prompt");
        record.timesteps = about.at("timesteps").get<std::vector<std::int64_t>>();
        record.made_from = about.at("made_from");
        const at::Tensor tokens = file.tensor("tokens").ne(0), cells = file.tensor("cells").ne(0);
        for (const nlohmann::json& entity : about.at("entities")) {
            const auto e = static_cast<std::int64_t>(record.entities.size());
            record.entities.push_back({.name = entity.at("name"),
                                       .word = entity.at("word"),
                                       .verb = entity.at("verb"),
                                       .tokens = tokens[e],
                                       .cells = cells[e]});
        }
        record.v2t_scores = file.tensor("v2t_scores");
        record.v2v_scores = file.tensor("v2v_scores");
        record.v2t = file.tensor("v2t");
        record.v2v = file.tensor("v2v");
        check_sizes(record, path);
        return record;
    } catch (const nlohmann::json::exception& error) {
        throw RunError(path.string() + ": " + error.what());
    } catch (const c10::Error& error) {
        throw RunError(path.string() + ": " + error.what_without_backtrace());
    }
}

}  // namespace matrix::analysis
