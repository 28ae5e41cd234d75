#include "matrix/analysis/summary.h"

#include <ATen/ATen.h>

#include <set>

#include "matrix/core/error.h"

namespace matrix::analysis {
namespace {

void check_alike(const std::vector<VideoRecord>& records) {
    if (records.empty()) {
        throw RunError("there is no clip to summarise");
    }
    for (const VideoRecord& record : records) {
        if (record.num_layers() != records[0].num_layers() ||
            record.timesteps.size() != records[0].timesteps.size()) {
            throw RunError(record.video + ": was read at other layers or steps than " +
                           records[0].video);
        }
    }
}

std::vector<double> values_of(const at::Tensor& row) {
    const at::Tensor values = row.to(at::kDouble).contiguous();
    return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

/// The scores of a record's entities of one variant, [n, S, l]; undefined of none.
at::Tensor entity_scores(const VideoRecord& record, const Variant& variant) {
    std::vector<std::int64_t> chosen;
    for (std::size_t e = 0; e < record.entities.size(); ++e) {
        if (record.entities[e].verb == variant.verb) {
            chosen.push_back(static_cast<std::int64_t>(e));
        }
    }
    return chosen.empty() ? at::Tensor()
                          : record.aas(variant.v2v).index_select(0, at::tensor(chosen, at::kLong));
}

void fill_scores(VariantSummary& summary, const std::vector<VideoRecord>& records,
                 const Variant& variant) {
    std::vector<at::Tensor> heats;
    for (const VideoRecord& record : records) {
        const at::Tensor scores = entity_scores(record, variant);
        if (!scores.defined()) {
            continue;
        }
        summary.scores.videos.push_back(record.video);
        const at::Tensor by_step = scores.nanmean(0);  // [S, l]
        summary.scores.values.push_back(values_of(by_step.mean(0)));
        heats.push_back(by_step);
    }
    if (!heats.empty()) {
        const at::Tensor heat = at::stack(heats).nanmean(0).t();  // [l, S]
        for (std::int64_t l = 0; l < heat.size(0); ++l) {
            summary.heat.push_back(values_of(heat[l]));
        }
    }
}

std::vector<bool> dummies_of(const std::vector<LayerVariance>& variances) {
    std::vector<bool> dummies;
    for (const LayerVariance& layer : variances) {
        dummies.push_back(layer.dummy);
    }
    return dummies;
}

}  // namespace

Summary summarise(const std::vector<VideoRecord>& records, const SummaryOptions& options) {
    check_alike(records);
    Summary summary;
    summary.timesteps = records[0].timesteps;
    summary.num_layers = records[0].num_layers();
    std::set<std::int64_t> sga;
    for (std::size_t i = 0; i < kVariants.size(); ++i) {
        const Variant& variant = kVariants[i];
        VariantSummary& entry = summary.variants[i];
        fill_scores(entry, records, variant);
        entry.variances = variances(entry.scores, options.dummy_variance);
        entry.influence = influence(
            entry.scores, variant.v2v ? std::vector<bool>() : dummies_of(entry.variances));
        entry.dominance = dominance(entry.scores, entry.influence, options.outcomes);
        entry.choice = choose_layers(entry.influence, entry.dominance, options.layers_per_variant);
        if (!variant.v2v) {
            sga.insert(entry.choice.layers.begin(), entry.choice.layers.end());
        } else if (!variant.verb) {
            const std::set<std::int64_t> spa(entry.choice.layers.begin(),
                                             entry.choice.layers.end());
            summary.spa_blocks.assign(spa.begin(), spa.end());
        }
    }
    summary.sga_blocks.assign(sga.begin(), sga.end());
    return summary;
}

}  // namespace matrix::analysis
