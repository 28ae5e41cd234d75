#include "cli/pictures/curves.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "cli/pictures/sheet.h"

namespace matrix::cli::pictures {
namespace {

using media::Plot;

constexpr std::size_t kMostPoints = 2000;  // of a curve: more than there are pixels

/// Every k-th mean of k neighbours, so that a long run's curve costs no more than a short one's.
History::Series thinned(const History::Series& series) {
    const std::size_t stride = series.values.size() / kMostPoints + 1;
    if (stride == 1) {
        return series;
    }
    History::Series out;
    for (std::size_t begin = 0; begin < series.values.size(); begin += stride) {
        const std::size_t end = std::min(begin + stride, series.values.size());
        double sum = 0;
        for (std::size_t i = begin; i < end; ++i) {
            sum += series.values[i];
        }
        out.steps.push_back(series.steps[begin]);
        out.values.push_back(sum / static_cast<double>(end - begin));
    }
    return out;
}

/// An alignment loss over the samples that took part in it: a dropped one counts in a step's mean
/// as 0. Steps without any are left out.
History::Series over_kept_samples(const History& history, const std::string& key,
                                  const std::vector<std::string>& dropouts,
                                  std::int64_t samples_per_step) {
    const History::Series loss = history.series(key);
    std::vector<double> kept(loss.values.size(), static_cast<double>(samples_per_step));
    for (const std::string& dropout : dropouts) {
        const History::Series dropped = history.series(dropout);
        for (std::size_t i = 0; i < std::min(kept.size(), dropped.values.size()); ++i) {
            kept[i] -= dropped.values[i];
        }
    }
    History::Series out;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        if (kept[i] > 0) {
            out.steps.push_back(loss.steps[i]);
            out.values.push_back(loss.values[i] * static_cast<double>(samples_per_step) / kept[i]);
        }
    }
    return out;
}

std::optional<Plot> loss_plot(const History::Series& raw, const std::string& title, double floor) {
    const History::Series series = thinned(raw);
    if (series.values.empty() || !std::isfinite(floor)) {
        return std::nullopt;
    }
    Plot plot;
    plot.title = title;
    plot.x_label = "step";
    const auto window =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(series.values.size()) / 20);
    plot.series.push_back({"training loss", series.steps, series.values, window});
    plot.references.push_back({"best constant answer", floor});
    return plot;
}

std::string spoken(const std::string& set) {
    return set == "train" ? "training clips" : "held-out clips";
}

void add_scores(std::vector<Plot>& plots, const History& history, const char* title,
                const std::string& key, double chance) {
    Plot plot;
    plot.title = title;
    plot.x_label = "step";
    for (const std::string set : {"train", "heldout"}) {
        const History::Series series = history.series("validation/" + set + "/" + key);
        if (!series.values.empty()) {
            plot.series.push_back({spoken(set), series.steps, series.values, 1});
        }
    }
    if (!plot.series.empty()) {
        plot.references.push_back({"chance", chance});
        if (chance == 0.5) {
            plot.references.push_back({"perfect", 1.0});  // so that an axis never magnifies noise
        }
        plots.push_back(std::move(plot));
    }
}

}  // namespace

std::vector<Plot> loss_plots(const History& history, const Floors& floors,
                             std::int64_t samples_per_step) {
    std::vector<Plot> plots;
    const auto add = [&](const char* key, const char* title, double floor,
                         const std::vector<std::string>& dropouts) {
        const History::Series series = over_kept_samples(history, key, dropouts, samples_per_step);
        if (auto plot = loss_plot(series, title, floor)) {
            plots.push_back(std::move(*plot));
        }
    };
    add("loss_denoise", "Denoising loss", floors.denoise, {});
    add("loss_sga", "SGA loss: words find their instances", floors.sga,
        {"images_dropped", "captions_dropped"});
    add("loss_spa", "SPA loss: instances stay bound over time", floors.spa, {"images_dropped"});
    return plots;
}

std::vector<Plot> word_plots(const History& history) {
    std::vector<Plot> plots;
    add_scores(plots, history, "Words (v2t), AUC: own instance against the rest", "auc_v2t", 0.5);
    add_scores(plots, history, "Words (v2t), AUC: own instance against the other", "bind_v2t", 0.5);
    add_scores(plots, history, "Words (v2t): attention on the instance / its area", "enrich_v2t",
               1.0);
    return plots;
}

std::vector<Plot> track_plots(const History& history) {
    std::vector<Plot> plots;
    add_scores(plots, history, "Tracks (v2v), AUC: own instance against the rest", "auc_v2v", 0.5);
    add_scores(plots, history, "Tracks (v2v): attention on the instance / its area", "enrich_v2v",
               1.0);
    return plots;
}

at::Tensor draw_curves(const History& history, const Floors& floors, std::int64_t samples_per_step,
                       const std::string& title) {
    std::vector<at::Tensor> rows = {text_line(title, 0.6)};
    for (const std::vector<Plot>& plots : {loss_plots(history, floors, samples_per_step),
                                           word_plots(history), track_plots(history)}) {
        std::vector<at::Tensor> pictures;
        for (Plot plot : plots) {
            plot.width_px = 600;
            plot.height_px = 330;
            plot.pixel_ratio = 1;
            pictures.push_back(media::draw_plot(plot));
        }
        if (!pictures.empty()) {
            rows.push_back(beside(pictures));
        }
    }
    return below(rows);
}

}  // namespace matrix::cli::pictures
