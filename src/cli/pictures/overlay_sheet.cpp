#include "cli/pictures/overlay_sheet.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdio>

#include "cli/pictures/sheet.h"
#include "matrix/media/draw.h"

namespace matrix::cli::pictures {
namespace {

constexpr double kColdest = -1.5, kHottest = 3.0;  // standard deviations
constexpr double kOpacity = 0.72;
constexpr std::int64_t kWidthPx = 320;
constexpr media::Color kOutline = {255, 255, 255};
constexpr media::Color kTints[] = {
    {255, 70, 60}, {60, 210, 90}, {70, 150, 255}};  // subject, object, verb
constexpr const char* kRoles[] = {"subject", "object", "verb"};

at::Tensor grey(const at::Tensor& frame) {
    const at::Tensor weights = at::tensor({0.299f, 0.587f, 0.114f});
    return frame.to(at::kFloat)
        .mul(weights)
        .sum(2, true)
        .to(at::kByte)
        .expand_as(frame)
        .contiguous();
}

/// First, middle and last of the frames that count.
std::vector<std::int64_t> shown_frames(std::int64_t first, std::int64_t frames) {
    std::vector<std::int64_t> shown;
    for (const std::int64_t k : {first, (first + frames - 1) / 2, frames - 1}) {
        if (shown.empty() || k > shown.back()) {
            shown.push_back(k);
        }
    }
    return shown;
}

std::string row_caption(const PictureClip& clip, std::int64_t entity, MapKind kind,
                        std::int64_t latent_frame) {
    const std::string frame = "frame " + std::to_string(pixel_frame(latent_frame));
    if (kind == MapKind::kTracks) {
        return std::string(kRoles[entity]) + ":\nthe " + clip.phrase(entity) + "\n" + frame;
    }
    return std::string(kRoles[entity]) + ":\n\"" + clip.phrase(entity) + "\"\n" + frame;
}

}  // namespace

std::int64_t pixel_frame(std::int64_t latent_frame) {
    return latent_frame == 0 ? 0 : 4 * latent_frame - 2;
}

std::string heat_legend() {
    return "Heat: attention logits at timestep " + std::to_string(kTimestep) +
           " less their mean over the clip, from -1.5 (dark) to 3 (pale) standard deviations, "
           "everywhere alike. White "
           "line: mask track.";
}

std::string score_text(double score) {
    char text[16];
    std::snprintf(text, sizeof text, "%.2f", score);
    return std::isnan(score) ? "-" : text;
}

Panel::Panel(const PictureClip& clip, std::int64_t latent_frame, std::int64_t width_px)
    : latent_frame_(latent_frame) {
    const std::int64_t t = pixel_frame(latent_frame);
    frame_ = frames_at_width(clip.frames.narrow(0, t, 1), width_px)[0];
    for (std::int64_t entity = 0; entity < 3; ++entity) {
        masks_.push_back(masks_at_width(clip.track(entity).narrow(0, t, 1), width_px)[0]);
    }
}

at::Tensor Panel::mask(std::int64_t entity) const {
    const media::Color tint = kTints[entity];
    const at::Tensor& mask = masks_[static_cast<std::size_t>(entity)];
    const at::Tensor inside = mask.ne(0).unsqueeze(2).to(at::kFloat) * 0.55;  // [h, w, 1]
    const at::Tensor color = at::tensor({tint[0], tint[1], tint[2]}, at::kByte).to(at::kFloat);
    const at::Tensor ground = grey(frame_).to(at::kFloat);
    const at::Tensor tinted = (ground + (color - ground) * inside).to(at::kByte);
    return media::outline_mask(tinted, mask, tint, 2);
}

at::Tensor Panel::attention(const at::Tensor& map, std::int64_t entity) const {
    const at::Tensor heat =
        media::overlay_heat(grey(frame_), map[latent_frame_], kColdest, kHottest, kOpacity);
    return media::outline_mask(heat, masks_[static_cast<std::size_t>(entity)], kOutline, 1);
}

at::Tensor overlay_sheet(const PictureClip& clip, const ClipMaps& before, const ClipMaps& after,
                         MapKind kind, const std::string& lines) {
    const bool words = kind == MapKind::kWords;
    const at::Tensor& maps_before = words ? before.words : before.tracks;
    const at::Tensor& maps_after = words ? after.words : after.tracks;
    const std::int64_t first = words ? 0 : 1;  // tracks: the queries stand in frame 0

    media::Grid grid;
    grid.column_captions = {"video", words ? "mask of the phrase" : "mask track",
                            "attention before", "attention after"};
    for (std::int64_t entity = 0; entity < maps_before.size(0); ++entity) {
        const std::vector<std::int64_t> frames = shown_frames(first, maps_before.size(1));
        for (const std::int64_t k : frames) {
            const Panel panel(clip, k, kWidthPx);
            const auto shown = [&](const at::Tensor& map) {
                const at::Tensor picture = panel.attention(standardised(map, first), entity);
                const double auc = map_auc(map, clip.track(entity), first);
                return k == frames.front()
                           ? media::label(picture, "AUC over all frames " + score_text(auc), 4, 4,
                                          0.5)
                           : picture;
            };
            grid.rows.push_back({panel.frame(), panel.mask(entity), shown(maps_before[entity]),
                                 shown(maps_after[entity])});
            grid.row_captions.push_back(row_caption(clip, entity, kind, k));
        }
    }
    const std::string what =
        words ? "Where the video attends to the words of the prompt (v2t)"
              : "Where the instance's cells in the first frame attend to in later frames (v2v)";
    const std::string set = clip.set == "train" ? "training clip " : "held-out clip ";
    return below(
        {text_line(what + ": " + set + clip.stem, 0.62), text_line("Prompt: " + clip.prompt(), 0.5),
         text_line(lines + "\n" + heat_legend() +
                       "\nAUC: cells of the mask against the rest; 0.5 is chance, 1 is perfect.",
                   0.45),
         media::tile(grid)});
}

}  // namespace matrix::cli::pictures
