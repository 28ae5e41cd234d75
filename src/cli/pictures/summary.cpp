#include "cli/pictures/summary.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "cli/pictures/overlay_sheet.h"
#include "cli/pictures/sheet.h"
#include "matrix/media/draw.h"

namespace matrix::cli::pictures {
namespace {

constexpr std::int64_t kWidthPx = 1600;
constexpr std::int64_t kPanelPx = 352;  // four of them, their gaps and the captions make 1600

at::Tensor plot_row(const History& history, const Floors& floors, std::int64_t samples_per_step) {
    // Not the denoising loss: the pictures below are not about it.
    std::vector<media::Plot> plots;
    const auto add_first = [&](const std::vector<media::Plot>& some, std::size_t index) {
        if (some.size() > index) {
            plots.push_back(some[index]);
        }
    };
    add_first(loss_plots(history, floors, samples_per_step), 1);
    add_first(word_plots(history), 0);
    add_first(track_plots(history), 0);
    std::vector<at::Tensor> pictures;
    for (media::Plot& plot : plots) {
        plot.width_px = kWidthPx / static_cast<std::int64_t>(plots.size());
        plot.height_px = 300;
        plot.pixel_ratio = 1;
        pictures.push_back(media::draw_plot(plot));
    }
    return beside(pictures);
}

}  // namespace

at::Tensor draw_summary(const History& history, const Floors& floors, std::int64_t samples_per_step,
                        const PictureClip& clip, const ClipMaps& before, const ClipMaps& after,
                        const std::string& lines) {
    const bool words = before.words.defined() && after.words.defined();
    const at::Tensor& maps_before = words ? before.words : before.tracks;
    const at::Tensor& maps_after = words ? after.words : after.tracks;
    const std::int64_t first = words ? 0 : 1;
    const std::int64_t middle = maps_before.size(1) / 2;
    media::Grid grid;
    grid.column_captions = {"video", "mask track", "attention before", "attention after"};
    for (std::int64_t entity = 0; entity < 2; ++entity) {
        for (const std::int64_t k : {first, middle}) {
            const Panel panel(clip, k, kPanelPx);
            const auto shown = [&](const at::Tensor& map) {
                const at::Tensor picture = panel.attention(standardised(map, first), entity);
                const double auc = map_auc(map, clip.track(entity), first);
                return k == first ? media::label(picture, "AUC over all frames " + score_text(auc),
                                                 4, 4, 0.5)
                                  : picture;
            };
            grid.rows.push_back({panel.frame(), panel.mask(entity), shown(maps_before[entity]),
                                 shown(maps_after[entity])});
            grid.row_captions.push_back("\"" + clip.phrase(entity) + "\"\nframe " +
                                        std::to_string(pixel_frame(k)));
        }
    }
    const std::string set = clip.set == "train" ? "Training clip: " : "Held-out clip: ";
    const at::Tensor all = below(
        {text_line(lines, 0.55), plot_row(history, floors, samples_per_step),
         text_line(set + clip.prompt(), 0.55),
         text_line(
             heat_legend() +
                 "\nAUC: the cells of the mask against the rest of the clip; 0.5 is chance, 1 is "
                 "perfect.",
             0.45),
         media::tile(grid)});
    at::Tensor summary = at::full({all.size(0), kWidthPx, 3}, 255, at::kByte);
    const std::int64_t width = std::min(kWidthPx, all.size(1));
    summary.narrow(1, 0, width).copy_(all.narrow(1, 0, width));
    return summary;
}

}  // namespace matrix::cli::pictures
