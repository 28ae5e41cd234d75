#include "matrix/train/validation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "matrix/alignment/scores.h"
#include "matrix/core/random.h"
#include "matrix/distributed/collective.h"
#include "train/clip_scores.h"
#include "train/model_input.h"

namespace matrix::train {
namespace {

constexpr std::int64_t kMaxRows = 16;

nlohmann::json number(double value) {
    return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

void put(nlohmann::json& into, const std::string& direction, const alignment::Scores& scores) {
    into["auc_" + direction] = number(scores.auc.value());
    if (direction ==
        "v2t") {  // words choose between instances; cells of the first frame have chosen
        into["bind_v2t"] = number(scores.bind.value());
    }
    into["enrich_" + direction] = number(scores.enrich.value());
    into["aas_" + direction] = number(scores.aas.value());
}

/// Scores by block, and the blocks of each term.
class Tally {
public:
    explicit Tally(const alignment::AlignmentConfig& config) {
        if (config.sga) {
            grounding_.insert(config.sga->blocks.begin(), config.sga->blocks.end());
        }
        if (config.spa) {
            propagation_.insert(config.spa->blocks.begin(), config.spa->blocks.end());
        }
    }

    [[nodiscard]] std::set<std::int64_t> blocks() const {
        std::set<std::int64_t> all = grounding_;
        all.insert(propagation_.begin(), propagation_.end());
        return all;
    }

    void add(std::int64_t block, const alignment::BlockScores& scores) {
        blocks_[block].v2t.add(scores.v2t);
        blocks_[block].v2v.add(scores.v2v);
    }

    void write(nlohmann::json& into) const {
        alignment::Scores v2t, v2v;
        for (const auto& [block, scores] : blocks_) {
            nlohmann::json& entry = into["blocks"][std::to_string(block)];
            if (grounding_.count(block) != 0) {
                put(entry, "v2t", scores.v2t);
                v2t.add(scores.v2t);
            }
            if (propagation_.count(block) != 0) {
                put(entry, "v2v", scores.v2v);
                v2v.add(scores.v2v);
            }
        }
        if (!grounding_.empty()) {
            put(into, "v2t", v2t);
        }
        if (!propagation_.empty()) {
            put(into, "v2v", v2v);
        }
    }

private:
    std::set<std::int64_t> grounding_, propagation_;
    std::map<std::int64_t, alignment::BlockScores> blocks_;
};

}  // namespace

const std::vector<std::int64_t>& validation_timesteps() {
    static const std::vector<std::int64_t> timesteps = {150, 500, 850};
    return timesteps;
}

std::vector<std::int64_t> validation_rows(std::int64_t size) {
    const std::int64_t count = std::min(size, kMaxRows);
    std::vector<std::int64_t> rows;
    for (std::int64_t i = 0; i < count; ++i) {
        rows.push_back(i * size / count);
    }
    return rows;
}

Batch validation_batch(const data_cache::SampleSource& samples, std::int64_t row,
                       const BatchRules& rules, std::int64_t timestep) {
    BatchRules plain = rules;
    plain.image_dropout = plain.caption_dropout = plain.id_map_dropout = 0.0;
    plain.seed = rules.seed ^ name_key("validation");  // never the noise a training step draws
    const std::int64_t number = row * plain.num_timesteps + timestep;
    Batch batch = make_batch({samples.get(row, plain.seed, static_cast<std::uint64_t>(number))},
                             {number}, samples.empty_prompt(), plain);
    batch.timestep.fill_(timestep);
    return batch;
}

namespace {

ClipScores score_clip(const RunParts& parts, const alignment::AlignmentConfig& config,
                      const std::set<std::int64_t>& blocks, const Batch& batch) {
    const models::Backbone& backbone = parts.backbone;
    const alignment::AttentionScorer scorer(config, batch.supervision, backbone.device());
    models::ForwardOptions options;
    options.sequence = parts.ranks.sequence;
    for (const std::int64_t block : blocks) {
        options.taps[block] = scorer.tap();
    }
    const NoisyBatch noisy = noisy_batch(batch, backbone, parts.schedule);
    const models::BackboneOutput output = backbone.forward(noisy.input, options);
    ClipScores scores;
    scores.loss_denoise = diffusion::denoising_loss(output.sample, noisy.velocity).item<double>();
    for (const auto& [block, maps] : output.tap_outputs) {
        scores.blocks[block] = scorer.score(maps);
    }
    return scores;
}

/// This replica's share of the rows: every num_replicas()-th. All replicas run as many forwards,
/// since ranks may need one another in them; what is over is not counted.
RowScores score_share(const RunParts& parts, const alignment::AlignmentConfig& config,
                      const std::set<std::int64_t>& blocks,
                      const data_cache::SampleSource& samples) {
    const std::vector<std::int64_t> rows = validation_rows(samples.size());
    const auto count = static_cast<std::int64_t>(rows.size());
    RowScores scores;
    for (std::int64_t begin = 0; begin < count; begin += parts.ranks.num_replicas()) {
        const std::int64_t own = begin + parts.ranks.replica();
        const std::int64_t row = rows[static_cast<std::size_t>(std::min(own, count - 1))];
        for (const std::int64_t timestep : validation_timesteps()) {
            ClipScores clip = score_clip(parts, config, blocks,
                                         validation_batch(samples, row, parts.rules, timestep));
            if (own < count) {
                scores[row].push_back(std::move(clip));
            }
        }
    }
    return scores;
}

}  // namespace

nlohmann::json validate(const RunParts& parts, const alignment::AlignmentConfig& config,
                        const data_cache::SampleSource& samples) {
    const at::NoGradGuard no_grad;
    Tally tally(config);
    // By row, so that the sums have one order however the rows were shared out.
    RowScores all;
    for (const std::string& text : distributed::gather_text(
             parts.ranks.all, encode_scores(score_share(parts, config, tally.blocks(), samples)),
             "validation")) {
        all.merge(decode_scores(text));
    }
    alignment::MeanScore loss;
    for (const auto& [row, clips] : all) {
        for (const ClipScores& clip : clips) {
            loss.add(clip.loss_denoise);
            for (const auto& [block, scores] : clip.blocks) {
                tally.add(block, scores);
            }
        }
    }
    nlohmann::json result = {{"loss_denoise", number(loss.value())}};
    tally.write(result);
    return result;
}

nlohmann::json validate_sets(const RunParts& parts, const alignment::AlignmentConfig& config,
                             const data_cache::SampleSource* held_out) {
    nlohmann::json sets;
    for (const auto& [name, samples] :
         {std::pair{"train", &parts.samples}, std::pair{"heldout", held_out}}) {
        if (samples != nullptr) {
            sets[name] = validate(parts, config, *samples);
        }
    }
    return sets;
}

}  // namespace matrix::train
