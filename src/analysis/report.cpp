#include "matrix/analysis/report.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "analysis/short_number.h"
#include "matrix/analysis/charts.h"
#include "matrix/core/markup.h"

namespace matrix::analysis {
namespace {

constexpr const char* kStyle = R"(
:root { color: #1c2430; background: #f4f5f7; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 1180px; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { max-width: 75ch; margin: .4rem 0; }
.card { background: #fff; border: 1px solid #dcdfe4; border-radius: 8px; padding: .8rem; }
.charts { display: grid; gap: .8rem;
          grid-template-columns: repeat(auto-fit, minmax(min(310px, 100%), 1fr)); }
.charts svg { display: block; width: 100%; max-width: 560px; margin: 0 auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #e3e6ea; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 0 0 1rem; }
figcaption { margin-bottom: .5rem; overflow-wrap: anywhere; }
figure img { display: block; min-width: 620px; width: 100%; height: auto; }
.quiet { color: #566072; font-size: .92rem; }
@media (max-width: 480px) {
  body { padding: .6rem; }
  th, td { padding: .3rem; font-size: .85rem; }
}
)";

std::string layers_text(const std::vector<std::int64_t>& layers) {
    std::string text;
    for (const std::int64_t layer : layers) {
        text += (text.empty() ? "" : ", ") + std::to_string(layer);
    }
    return text.empty() ? "none" : text;
}

std::string paragraph(const std::string& text, const char* kind = "") {
    return std::string("<p") + kind + ">" + escaped_markup(text) + "</p>\n";
}

double score_at(const Summary& summary, std::size_t variant, std::int64_t layer) {
    const std::vector<LayerInfluence>& layers = summary.variants[variant].influence;
    const auto at = static_cast<std::size_t>(layer);
    return at < layers.size() ? layers[at].magnitude : std::nan("");
}

/// The earlier analysis first: tables, maps and bars read from before to after.
std::vector<const ReportSide*> in_time(const Report& report) {
    std::vector<const ReportSide*> order;
    for (auto side = report.sides.rbegin(); side != report.sides.rend(); ++side) {
        order.push_back(&*side);
    }
    return order;
}

/// The layers of each variant and their score on every side.
std::string choice_table(const Report& report) {
    std::string text = "<div class=\"card scroll\"><table><tr><th>what</th><th>layer</th>";
    for (const ReportSide* side : in_time(report)) {
        text += "<th>" + escaped_markup(side->label) + "</th>";
    }
    text += "</tr>\n";
    const Summary& main = report.sides.front().summary;
    for (std::size_t v = 0; v < kVariants.size(); ++v) {
        const LayerChoice& choice = main.variants[v].choice;
        text += "<tr><td>" + escaped_markup(std::string(kVariants[v].title)) +
                "</td><td class=\"number\">" + layers_text(choice.layers) + "</td>";
        for (const ReportSide* side : in_time(report)) {
            std::string scores;
            for (const std::int64_t layer : choice.layers) {
                scores +=
                    (scores.empty() ? "" : ", ") + short_number(score_at(side->summary, v, layer));
            }
            text += "<td class=\"number\">" + scores + "</td>";
        }
        text += "</tr>\n";
    }
    return text + "</table></div>\n" +
           paragraph("For training: alignment.sga.blocks " + layers_text(main.sga_blocks) +
                     "; alignment.spa.blocks " + layers_text(main.spa_blocks) +
                     ". Verb propagation is shown, but SPA has no verb.");
}

std::string card(const std::string& svg) {
    return "<div class=\"card\">" + svg + "</div>\n";
}

std::string variant_section(const Report& report, std::size_t v) {
    const Variant& variant = kVariants[v];
    const std::string title(variant.title);
    const VariantSummary& main = report.sides.front().summary.variants[v];
    std::string text = "<h2>" + escaped_markup(title) + "</h2>\n";
    if (main.scores.videos.empty()) {
        return text + paragraph("No clip has such an entity.");
    }
    double maximum = 0;
    std::vector<InfluenceSeries> series;
    for (const ReportSide& side : report.sides) {
        maximum = std::max(maximum, largest(side.summary.variants[v].heat));
    }
    text += paragraph("Chosen: layer " + layers_text(main.choice.layers) + " (" +
                      main.choice.reason + ").");
    text += "<div class=\"charts\">\n";
    for (const ReportSide* side : in_time(report)) {
        const VariantSummary& summary = side->summary.variants[v];
        series.push_back({side->label, summary.influence, summary.scores.videos.size()});
        text += card(
            heat_map_svg({(report.sides.size() > 1 ? side->label + ": s" : "S") +
                              std::string("core by layer and step, 0 to ") + short_number(maximum),
                          summary.heat, side->summary.timesteps, maximum, summary.choice.layers}));
    }
    text += card(
        influence_svg("Score by layer, mean over clips and steps", series, main.choice.layers));
    if (!main.dominance.empty()) {
        text += card(dominance_svg("Dominance of the influential layers", main.dominance));
    }
    return text + "</div>\n";
}

std::string variance_section(const Report& report) {
    const Summary& main = report.sides.front().summary;
    if (report.sides.front().num_clips < 2) {
        return "";
    }
    std::string text = "<h2>Does the score depend on the prompt?</h2>\n" +
                       paragraph(
                           "A layer that scores every prompt alike looks at none of them. "
                           "Variance over the clips in squares of the mean, logarithmic; "
                           "layers left out as dummies are grey.") +
                       "<div class=\"charts\">\n";
    text += card(variance_svg("Nouns", main.variants[0].variances, main.variants[2].variances));
    text += card(variance_svg("Verbs", main.variants[1].variances, main.variants[3].variances));
    return text + "</div>\n";
}

std::string pictures_section(const Report& report) {
    if (report.pictures.empty()) {
        return "";
    }
    std::string text = "<h2>What the chosen layers look at</h2>\n" +
                       paragraph(
                           "Left the frame with the entity's mask track outlined; right of "
                           "it where the layer's attention is, pale where it is most, the "
                           "mean over heads and steps, each frame from its least to its largest "
                           "value. v2t is what the cells give to the entity's words, v2v what its "
                           "cells in frame 0 give to all cells. The mp4 files beside this page "
                           "show all frames.");
    for (const ReportPicture& picture : report.pictures) {
        text += "<figure class=\"card\"><figcaption>" + escaped_markup(picture.caption) +
                "</figcaption><div class=\"scroll\"><img alt=\"" + escaped_markup(picture.caption) +
                "\" src=\"data:image/jpeg;base64," + base64(picture.jpeg) + "\"></div></figure>\n";
    }
    return text;
}

}  // namespace

std::string report_html(const Report& report) {
    std::string text =
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        "<title>" +
        escaped_markup(report.title) + "</title><style>" + kStyle + "</style></head><body>\n<h1>" +
        escaped_markup(report.title) + "</h1>\n";
    for (const std::string& line : report.about) {
        text += paragraph(line);
    }
    text += "<h2>The layers that bind words to instances</h2>\n" + choice_table(report);
    for (std::size_t v = 0; v < kVariants.size(); ++v) {
        text += variant_section(report, v);
    }
    text += variance_section(report) + pictures_section(report);
    if (!report.left_out.empty()) {
        text += "<h2>Left out</h2>\n";
        for (const std::string& line : report.left_out) {
            text += paragraph(line, " class=\"quiet\"");
        }
    }
    return text + "</body></html>\n";
}

}  // namespace matrix::analysis
