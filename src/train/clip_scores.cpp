#include "train/clip_scores.h"

#include <array>
#include <bit>
#include <nlohmann/json.hpp>

namespace matrix::train {
namespace {

using alignment::MeanScore;
using alignment::Scores;

constexpr std::array kScores = {&Scores::auc, &Scores::bind, &Scores::enrich, &Scores::aas};

nlohmann::json to_json(const Scores& scores) {
    nlohmann::json json;
    for (const auto score : kScores) {
        json.push_back({(scores.*score).sum, (scores.*score).count});
    }
    return json;
}

Scores from_json(const nlohmann::json& json) {
    Scores scores;
    for (std::size_t i = 0; i < kScores.size(); ++i) {
        scores.*kScores[i] = MeanScore{json[i][0], json[i][1]};
    }
    return scores;
}

}  // namespace

std::string encode_scores(const RowScores& rows) {
    nlohmann::json json = nlohmann::json::array();
    for (const auto& [row, list] : rows) {
        nlohmann::json clips;
        for (const ClipScores& clip : list) {
            nlohmann::json blocks = nlohmann::json::array();
            for (const auto& [block, scores] : clip.blocks) {
                blocks.push_back({block, to_json(scores.v2t), to_json(scores.v2v)});
            }
            // As bits: JSON has no number for a loss that is not finite.
            clips.push_back({std::bit_cast<std::int64_t>(clip.loss_denoise), blocks});
        }
        json.push_back({row, clips});
    }
    return json.dump();
}

RowScores decode_scores(const std::string& text) {
    RowScores rows;
    for (const nlohmann::json& entry : nlohmann::json::parse(text)) {
        std::vector<ClipScores>& list = rows[entry[0]];
        for (const nlohmann::json& clip : entry[1]) {
            ClipScores& scores = list.emplace_back();
            scores.loss_denoise = std::bit_cast<double>(clip[0].get<std::int64_t>());
            for (const nlohmann::json& block : clip[1]) {
                scores.blocks[block[0]] = {from_json(block[1]), from_json(block[2])};
            }
        }
    }
    return rows;
}

}  // namespace matrix::train
