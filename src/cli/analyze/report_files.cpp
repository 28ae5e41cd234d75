#include "cli/analyze/report_files.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "cli/analyze/overlays.h"
#include "cli/pictures/clips.h"
#include "matrix/analysis/charts.h"
#include "matrix/analysis/report.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::cli::analyze {
namespace {

namespace fs = std::filesystem;

void write_charts(const fs::path& out, const Analysis& analysis) {
    const analysis::Summary& summary = analysis.summary;
    for (std::size_t v = 0; v < analysis::kVariants.size(); ++v) {
        const std::string name(analysis::kVariants[v].name), title(analysis::kVariants[v].title);
        const analysis::VariantSummary& variant = summary.variants[v];
        const fs::path dominance = out / ("dominance_" + name + ".svg");
        fs::remove(dominance);
        if (variant.scores.videos.empty()) {
            continue;
        }
        write_file_atomically(
            out / ("heatmap_" + name + ".svg"),
            analysis::heat_map_svg({title + " by layer and step", variant.heat, summary.timesteps,
                                    analysis::largest(variant.heat), variant.choice.layers}));
        write_file_atomically(
            out / ("influence_" + name + ".svg"),
            analysis::influence_svg(
                title, {{analysis.label, variant.influence, variant.scores.videos.size()}},
                variant.choice.layers));
        if (!variant.dominance.empty()) {
            write_file_atomically(dominance, analysis::dominance_svg(title, variant.dominance));
        }
    }
    const auto& v = summary.variants;
    write_file_atomically(out / "variance_noun.svg",
                          analysis::variance_svg("Nouns", v[0].variances, v[2].variances));
    write_file_atomically(out / "variance_verb.svg",
                          analysis::variance_svg("Verbs", v[1].variances, v[3].variances));
}

const analysis::VideoRecord* record_of(const Analysis& analysis, const std::string& video) {
    const auto found = std::ranges::find(analysis.records, video, &analysis::VideoRecord::video);
    return found == analysis.records.end() ? nullptr : &*found;
}

bool same_entities(const analysis::VideoRecord& a, const analysis::VideoRecord& b) {
    return a.v2t.sizes() == b.v2t.sizes() &&
           std::ranges::equal(a.entities, b.entities, {}, &analysis::Entity::name,
                              &analysis::Entity::name);
}

at::Tensor frames_of(const AnalysedClip& clip, const Settings& settings) {
    if (settings.generate) {
        std::vector<std::int64_t> all(static_cast<std::size_t>(clip.sample.video.size(1)));
        std::iota(all.begin(), all.end(), 0);
        return media::read_video_frames(video_path(settings.out, clip.row.video), all);
    }
    return pictures::to_frames(clip.sample.video);
}

/// The frames and entities of a clip with what both analyses read of it.
DrawnClip drawn_clip(const data_source::Row& row, const analysis::VideoRecord& record,
                     const Analysis& analysis, const ReportParts& parts) {
    const AnalysedClip clip = load_clip(row, parts.rules);
    DrawnClip drawn{frames_of(clip, parts.settings), clip.entities, {}};
    const analysis::VideoRecord* earlier =
        parts.beside ? record_of(*parts.beside, row.video) : nullptr;
    if (earlier != nullptr && same_entities(*earlier, record)) {
        drawn.readings.push_back({parts.beside->label, *earlier});
    }
    drawn.readings.push_back({analysis.label, record});
    return drawn;
}

std::vector<analysis::ReportPicture> draw(const Analysis& analysis, const ReportParts& parts,
                                          std::vector<std::string>& undrawn) {
    const fs::path directory = fs::path(parts.settings.out) / "pictures";
    fs::remove_all(directory);
    fs::create_directories(directory);
    const ShownLayers layers = shown_layers(analysis.summary);
    std::vector<analysis::ReportPicture> drawn;
    for (const data_source::Row& row : parts.rows) {
        const analysis::VideoRecord* record = record_of(analysis, row.video);
        if (static_cast<std::int64_t>(drawn.size()) == parts.settings.overlays) {
            break;
        }
        if (record == nullptr) {
            continue;
        }
        try {
            const DrawnClip clip = drawn_clip(row, *record, analysis, parts);
            drawn.push_back({row.video + ": " + record->prompt,
                             media::encode_jpeg(draw_clip(directory, pictures::stem_of(row.video),
                                                          clip, layers))});
        } catch (const RunError& error) {
            for (const std::string& fault : error.faults()) {
                undrawn.push_back("its maps are not drawn: " + fault);
            }
        }
    }
    return drawn;
}

std::string numbers(const std::vector<std::int64_t>& values) {
    std::string text;
    for (const std::int64_t value : values) {
        text += (text.empty() ? "" : ", ") + std::to_string(value);
    }
    return text;
}

std::vector<std::string> about(const Analysis& analysis, const ReportParts& parts) {
    const Settings& s = parts.settings;
    const data_cache::DataConfig& data = parts.rules.data;
    std::vector<std::string> lines;
    lines.push_back(
        "Model " + s.model + (s.adapter.empty() ? std::string() : ", adapter " + s.adapter) + "; " +
        std::to_string(analysis.records.size()) + " clips of " + s.data + ", " +
        std::to_string(data.frames) + " frames of " + std::to_string(data.width) + " x " +
        std::to_string(data.height) + ". " +
        (s.generate ? "Read in all " + std::to_string(s.steps) +
                          " steps of making each video, in the half of guidance that has "
                          "the prompt."
                    : "Read on the clips themselves, with noise of timesteps " +
                          numbers(s.timesteps) + "."));
    lines.emplace_back(
        "The score is the Attention Alignment Score: how much attention, of all that the softmax "
        "has to give, lies on the cells of an entity's mask track. For words (v2t) it is what "
        "video cells give to the entity's words, summed over the track, and grows with its area; "
        "for tracks (v2v) what the entity's cells in the first frame give to its cells in all "
        "frames, at most 1. A verb's mask is its subject's and object's together.");
    if (!parts.cost.empty()) {
        lines.push_back(parts.cost);
    }
    return lines;
}

}  // namespace

std::vector<std::string> write_report(const Analysis& analysis, const ReportParts& parts) {
    const fs::path out = parts.settings.out;
    write_charts(out, analysis);
    analysis::Report report;
    report.title = "Where attention looks: " + analysis.label +
                   (parts.beside ? " beside " + parts.beside->label : "");
    report.about = about(analysis, parts);
    report.sides.push_back({analysis.label, analysis.summary, analysis.records.size()});
    if (parts.beside) {
        report.sides.push_back(
            {parts.beside->label, parts.beside->summary, parts.beside->records.size()});
    }
    std::vector<std::string> undrawn;
    report.pictures = draw(analysis, parts, undrawn);
    report.left_out = parts.left_out;
    report.left_out.insert(report.left_out.end(), undrawn.begin(), undrawn.end());
    write_file_atomically(out / "report.html", analysis::report_html(report));
    return undrawn;
}

}  // namespace matrix::cli::analyze
