#include "matrix/alignment/scores.h"

#include "matrix/alignment/readout.h"
#include "presence.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

// B batch, N interactions, E entities of a term, F x gh x gw cells, T x H x W pixels.

namespace matrix::alignment {
namespace {

constexpr std::int64_t kPixels = 16;
constexpr std::int64_t kFrames = 4;
constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

void check_track(const at::Tensor& track) {
    TORCH_CHECK(track.dim() == 3 && track.size(0) % kFrames == 1 && track.size(1) % kPixels == 0 &&
                    track.size(2) % kPixels == 0,
                "a mask track is [4 (F - 1) + 1, 16 gh, 16 gw], got ", track.sizes());
}

// [T, gh, gw] -> the first frame [1, gh, gw] and the others by latent frame [F - 1, 4, gh, gw].
std::pair<at::Tensor, at::Tensor> by_latent_frame(const at::Tensor& frames) {
    const at::Tensor rest = frames.narrow(0, 1, frames.size(0) - 1);
    return {frames.narrow(0, 0, 1),
            rest.reshape({rest.size(0) / kFrames, kFrames, frames.size(1), frames.size(2)})};
}

double enrichment(const at::Tensor& probability, const at::Tensor& covered) {
    const auto cells = static_cast<double>(covered.sum().item<std::int64_t>());
    const double all = probability.sum(at::kDouble).item<double>();
    if (cells == 0 || all == 0) {
        return kUndefined;
    }
    const double inside = probability.masked_select(covered).sum(at::kDouble).item<double>();
    return inside / all * static_cast<double>(covered.numel()) / cells;
}

// Only cells that belong to exactly one of the two.
double binding(const at::Tensor& raw, const at::Tensor& own, const at::Tensor& other) {
    const at::Tensor one = own.logical_xor(other);
    return roc_auc(raw.masked_select(one), own.masked_select(one));
}

std::vector<bool> flatten(const Presence& presence) {
    std::vector<bool> flat;
    for (const auto& sample : presence.counted) {
        for (const auto& interaction : sample) {
            flat.insert(flat.end(), interaction.begin(), interaction.end());
        }
    }
    return flat;
}

}  // namespace

void MeanScore::add(double value) {
    if (!std::isnan(value)) {
        sum += value;
        ++count;
    }
}

void MeanScore::add(const MeanScore& other) {
    sum += other.sum;
    count += other.count;
}

double MeanScore::value() const {
    return count == 0 ? kUndefined : sum / static_cast<double>(count);
}

void Scores::add(const Scores& other) {
    auc.add(other.auc);
    bind.add(other.bind);
    enrich.add(other.enrich);
    aas.add(other.aas);
}

double roc_auc(const at::Tensor& values, const at::Tensor& positive) {
    TORCH_CHECK(values.dim() == 1 && values.sizes() == positive.sizes(),
                "roc_auc wants two lists of one length, got ", values.sizes(), " and ",
                positive.sizes());
    const at::Tensor v = values.to(at::kCPU, at::kDouble).contiguous();
    const at::Tensor p = positive.to(at::kCPU, at::kBool).contiguous();
    const double* value = v.const_data_ptr<double>();
    const bool* is_positive = p.const_data_ptr<bool>();
    if (at::isnan(v).any().item<bool>()) {
        return kUndefined;  // has no place in an order: the loops below would not end
    }
    std::vector<std::int64_t> order(static_cast<std::size_t>(v.numel()));
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](std::int64_t a, std::int64_t b) { return value[a] < value[b]; });
    // Pairs (positive, negative) in the right order, equal values as half a pair.
    double pairs = 0, negatives = 0, positives = 0;
    for (std::size_t i = 0; i < order.size();) {
        double tied_positives = 0, tied_negatives = 0;
        const double current = value[order[i]];
        for (; i < order.size() && value[order[i]] == current; ++i) {
            (is_positive[order[i]] ? tied_positives : tied_negatives) += 1;
        }
        pairs += tied_positives * (negatives + tied_negatives / 2);
        positives += tied_positives;
        negatives += tied_negatives;
    }
    return positives == 0 || negatives == 0 ? kUndefined : pairs / (positives * negatives);
}

at::Tensor cell_coverage(const at::Tensor& mask_track) {
    check_track(mask_track);
    const at::Tensor pixels = mask_track.ne(0)
                                  .view({mask_track.size(0), mask_track.size(1) / kPixels, kPixels,
                                         mask_track.size(2) / kPixels, kPixels})
                                  .sum({2, 4});  // [T, gh, gw]
    const auto [first, rest] = by_latent_frame(pixels);
    return at::cat({first.to(at::kFloat) / static_cast<double>(kPixels * kPixels),
                    rest.sum(1).to(at::kFloat) / static_cast<double>(kFrames * kPixels * kPixels)});
}

at::Tensor latent_mask(const at::Tensor& mask_track) {
    check_track(mask_track);
    const auto [first, rest] = by_latent_frame(
        mask_track.ne(0).slice(1, 0, std::nullopt, kPixels).slice(2, 0, std::nullopt, kPixels));
    return at::cat({first, rest.any(1)});
}

AttentionScorer::AttentionScorer(const AlignmentConfig& config, const Supervision& supervision,
                                 at::Device device)
    : config_(config), supervision_(supervision), device_(device) {
    const BatchPresence presence = find_presence(supervision);
    grounding_counted_ = flatten(presence.sga);
    propagation_counted_ = flatten(presence.spa);
    const at::Tensor masks = supervision.masks.to(at::kCPU);
    for (std::int64_t b = 0; b < masks.size(0); ++b) {
        for (std::int64_t n = 0; n < masks.size(1); ++n) {
            const at::Tensor tracks = masks[b][n];  // [2, T, H, W]
            for (const at::Tensor& track :
                 {tracks[0], tracks[1], tracks[0].bitwise_or(tracks[1])}) {
                cells_.push_back({cell_coverage(track).ge(0.5), latent_mask(track)});
            }
        }
    }
}

nn::Tap AttentionScorer::tap() const {
    using Value = ReadoutOptions::Value;
    std::vector<AttentionReadout> readouts;
    const auto add = [&](ReadoutOptions options, const at::Tensor& mask) {
        readouts.emplace_back(options, mask, device_);
        readouts.emplace_back(ReadoutOptions{options.direction, Value::kProbabilities}, mask,
                              device_);
    };
    if (config_.sga) {
        add({ReadoutOptions::Direction::kV2t, Value::kLogits, parse_center(config_.center)},
            supervision_.token_mask.flatten(1, 2));
    }
    if (config_.spa) {
        add({ReadoutOptions::Direction::kV2v, Value::kLogits, ReadoutOptions::Center::kNone},
            supervision_.query_mask.flatten(1, 2));
    }
    return [readouts = std::move(readouts)](const nn::TapInput& input) {
        std::vector<at::Tensor> maps;
        for (const AttentionReadout& readout : readouts) {
            maps.push_back(readout.read(input.query, input.key, input.log_sum_exp, input.layout));
        }
        return at::cat(maps, 1);
    };
}

BlockScores AttentionScorer::score(const at::Tensor& tap_output) const {
    const at::Tensor maps = tap_output.detach().to(at::kCPU);
    const std::int64_t interactions = supervision_.masks.size(1);
    BlockScores scores;
    std::int64_t next = 0;
    const auto take = [&](std::int64_t entities) {
        const at::Tensor part = maps.narrow(1, next, interactions * entities);
        next += interactions * entities;
        return part.flatten(0, 1);  // [B * N * E, F, gh, gw]
    };
    if (config_.sga) {
        const at::Tensor raw = take(kGroundingEntities), probability = take(kGroundingEntities);
        scores.v2t = score_term(raw, probability, grounding_counted_, kGroundingEntities, 0);
    }
    if (config_.spa) {
        const at::Tensor raw = take(kPropagationEntities), probability = take(kPropagationEntities);
        scores.v2v = score_term(raw, probability, propagation_counted_, kPropagationEntities, 1);
    }
    TORCH_CHECK(next == maps.size(1), "a score tap's output has ", next, " maps, got ",
                maps.size(1));
    return scores;
}

Scores AttentionScorer::score_term(const at::Tensor& raw, const at::Tensor& probability,
                                   const std::vector<bool>& counted, std::int64_t entities,
                                   std::int64_t first_frame) const {
    Scores scores;
    const auto scored = [&](const at::Tensor& t) {
        return t.narrow(0, first_frame, t.size(0) - first_frame).flatten();
    };
    for (std::int64_t i = 0; i < raw.size(0); ++i) {
        if (!counted[i]) {
            continue;
        }
        const std::int64_t e = i % entities;
        const Cells* interaction = &cells_[i / entities * kGroundingEntities];
        const at::Tensor own = scored(interaction[e].covered);
        scores.auc.add(roc_auc(scored(raw[i]), own));
        if (e < kPropagationEntities) {
            scores.bind.add(binding(scored(raw[i]), own, scored(interaction[1 - e].covered)));
        }
        scores.enrich.add(enrichment(scored(probability[i]), own));
        scores.aas.add(
            probability[i].masked_select(interaction[e].touched).sum(at::kDouble).item<double>());
    }
    return scores;
}

}  // namespace matrix::alignment
