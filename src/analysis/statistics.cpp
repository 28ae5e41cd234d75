#include "matrix/analysis/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "analysis/short_number.h"

namespace matrix::analysis {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

/// Places of the values from the largest down, NaN last, equal ones in their order.
std::vector<std::size_t> descending(const std::vector<double>& values) {
    std::vector<std::size_t> order(values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
        return !std::isnan(values[a]) && (std::isnan(values[b]) || values[a] > values[b]);
    });
    return order;
}

std::vector<double> of_layer(const LayerScores& scores, std::size_t layer) {
    std::vector<double> values;
    for (const auto& video : scores.values) {
        values.push_back(video[layer]);
    }
    return values;
}

}  // namespace

double defined_mean(const std::vector<double>& values) {
    double sum = 0;
    std::size_t count = 0;
    for (const double value : values) {
        if (!std::isnan(value)) {
            sum += value;
            ++count;
        }
    }
    return count == 0 ? kUndefined : sum / static_cast<double>(count);
}

std::vector<double> descending_ranks(const std::vector<double>& values) {
    const std::vector<std::size_t> order = descending(values);
    const auto equal = [&](std::size_t a, std::size_t b) {
        return values[a] == values[b] || (std::isnan(values[a]) && std::isnan(values[b]));
    };
    std::vector<double> ranks(values.size());
    for (std::size_t begin = 0, end = 0; begin < order.size(); begin = end) {
        while (end < order.size() && equal(order[begin], order[end])) {
            ++end;
        }
        for (std::size_t i = begin; i < end; ++i) {
            ranks[order[i]] = static_cast<double>(begin + 1 + end) / 2.0;
        }
    }
    return ranks;
}

std::vector<LayerInfluence> influence(const LayerScores& scores, const std::vector<bool>& dummies) {
    std::vector<LayerInfluence> layers;
    std::vector<std::size_t> kept;
    for (std::size_t l = 0; l < scores.num_layers(); ++l) {
        LayerInfluence& layer = layers.emplace_back();
        layer.layer = static_cast<std::int64_t>(l);
        layer.magnitude = defined_mean(of_layer(scores, l));
        layer.dummy = l < dummies.size() && dummies[l];
        if (!layer.dummy && !std::isnan(layer.magnitude)) {
            kept.push_back(l);
        }
    }
    for (const auto& video : scores.values) {
        std::vector<double> values;
        for (const std::size_t l : kept) {
            values.push_back(video[l]);
        }
        const std::vector<std::size_t> order = descending(values);
        for (std::size_t i = 0; i < std::min(kTop, order.size()); ++i) {
            layers[kept[order[i]]].frequency += std::isnan(values[order[i]]) ? 0 : 1;
        }
    }
    std::vector<double> frequencies, magnitudes;
    for (const std::size_t l : kept) {
        frequencies.push_back(static_cast<double>(layers[l].frequency));
        magnitudes.push_back(layers[l].magnitude);
    }
    const std::vector<double> frequency_ranks = descending_ranks(frequencies);
    const std::vector<double> magnitude_ranks = descending_ranks(magnitudes);
    for (std::size_t i = 0; i < kept.size(); ++i) {
        LayerInfluence& layer = layers[kept[i]];
        layer.frequency_rank = frequency_ranks[i];
        layer.magnitude_rank = magnitude_ranks[i];
        layer.rank_sum = layer.frequency_rank + layer.magnitude_rank;
    }
    std::ranges::sort(kept, [&](std::size_t a, std::size_t b) {
        const LayerInfluence &x = layers[a], &y = layers[b];
        return x.rank_sum != y.rank_sum     ? x.rank_sum < y.rank_sum
               : x.magnitude != y.magnitude ? x.magnitude > y.magnitude
                                            : a < b;
    });
    for (std::size_t i = 0; i < std::min(kTop, kept.size()); ++i) {
        layers[kept[i]].influential = true;
    }
    return layers;
}

std::vector<LayerInfluence> by_rank_sum(std::vector<LayerInfluence> layers) {
    std::erase_if(layers, [](const LayerInfluence& layer) { return !layer.influential; });
    std::ranges::stable_sort(layers, [](const LayerInfluence& a, const LayerInfluence& b) {
        return a.rank_sum != b.rank_sum ? a.rank_sum < b.rank_sum : a.magnitude > b.magnitude;
    });
    return layers;
}

std::vector<LayerDominance> dominance(const LayerScores& scores,
                                      const std::vector<LayerInfluence>& layers,
                                      const std::vector<Outcome>& outcomes) {
    std::map<std::string, bool> success;
    for (const Outcome& outcome : outcomes) {
        success[outcome.video] = outcome.success;
    }
    std::vector<LayerDominance> result;
    for (const LayerInfluence& layer : layers) {
        if (!layer.influential) {
            continue;
        }
        std::vector<double> good, bad, all;
        for (std::size_t v = 0; v < scores.videos.size(); ++v) {
            const auto found = success.find(scores.videos[v]);
            if (found == success.end()) {
                continue;
            }
            const double value = scores.values[v][static_cast<std::size_t>(layer.layer)];
            all.push_back(value);
            (found->second ? good : bad).push_back(value);
        }
        const double mean = defined_mean(all);
        LayerDominance entry{layer.layer, defined_mean(good) - mean, defined_mean(bad) - mean};
        if (std::isnan(entry.gap_success) || std::isnan(entry.gap_failure)) {
            continue;
        }
        entry.separation = entry.gap_success - entry.gap_failure;
        entry.dominant = entry.gap_success > 0 && entry.gap_failure < 0;
        result.push_back(entry);
    }
    std::ranges::stable_sort(result, std::ranges::greater{}, &LayerDominance::separation);
    return result;
}

std::vector<LayerVariance> variances(const LayerScores& scores, double threshold) {
    std::vector<LayerVariance> result;
    for (std::size_t l = 0; l < scores.num_layers(); ++l) {
        std::vector<double> values = of_layer(scores, l);
        std::erase_if(values, [](double value) { return std::isnan(value); });
        LayerVariance layer{static_cast<std::int64_t>(l), defined_mean(values), kUndefined};
        if (!values.empty()) {
            for (double& value : values) {
                value = (value - layer.mean) * (value - layer.mean);
            }
            layer.variance = defined_mean(values);
            layer.dummy =
                values.size() > 1 && layer.variance <= threshold * layer.mean * layer.mean;
        }
        result.push_back(layer);
    }
    return result;
}

LayerChoice choose_layers(const std::vector<LayerInfluence>& layers,
                          const std::vector<LayerDominance>& dominance, std::size_t count) {
    LayerChoice choice;
    for (const LayerDominance& layer : dominance) {
        if (layer.dominant && choice.layers.size() < count) {
            choice.layers.push_back(layer.layer);
            choice.reason += (choice.reason.empty() ? "" : "; ") + std::string("layer ") +
                             std::to_string(layer.layer) + " separates successes (" +
                             short_number(layer.gap_success) + ") from failures (" +
                             short_number(layer.gap_failure) + ") by " +
                             short_number(layer.separation);
        }
    }
    if (!choice.layers.empty()) {
        return choice;
    }
    const std::vector<LayerInfluence> influential = by_rank_sum(layers);
    if (influential.empty()) {
        choice.reason = layers.empty() ? "no clip has such an entity"
                                       : "no layer's score depends on the prompt";
        return choice;
    }
    choice.reason = dominance.empty()
                        ? "there are not both successes and failures, so by influence alone"
                        : "no influential layer is higher in successes and lower in failures, so "
                          "by influence alone";
    for (const LayerInfluence& layer : influential) {
        if (choice.layers.size() < count) {
            choice.layers.push_back(layer.layer);
            choice.reason += "; layer " + std::to_string(layer.layer) + " has rank sum " +
                             short_number(layer.rank_sum) + ", score " +
                             short_number(layer.magnitude) + ", in the top " +
                             std::to_string(kTop) + " of " + std::to_string(layer.frequency) +
                             " videos";
        }
    }
    return choice;
}

}  // namespace matrix::analysis
