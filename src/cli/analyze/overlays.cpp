#include "cli/analyze/overlays.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "cli/pictures/sheet.h"
#include "matrix/media/draw.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::cli::analyze {
namespace {

constexpr std::int64_t kWidthPx = 240, kThumbnailPx = 160;
constexpr double kFramesPerSecond = 8;
constexpr media::Color kOutline = {255, 255, 255};

std::int64_t latent_frame(std::int64_t pixel_frame) {
    return (pixel_frame + 3) / 4;
}

/// What one column of a sheet shows of an entity.
struct Column {
    std::string caption;
    const DrawnClip::Reading* reading;  // null: the frame with the mask alone
    bool v2v = false;
};

std::size_t variant_of(bool verb, bool v2v) {
    return (v2v ? 2U : 0U) + (verb ? 1U : 0U);
}

/// A map [gh, gw] from 0 to 1.
at::Tensor scaled(const at::Tensor& map) {
    const at::Tensor low = map.min();
    return (map - low) / (map.max() - low).clamp_min(1e-30);
}

/// A clip at the width of a sheet's pictures.
class Painter {
public:
    Painter(const DrawnClip& clip, std::int64_t width_px)
        : frames_(pictures::frames_at_width(clip.frames, width_px)) {
        for (const analysis::Entity& entity : clip.entities) {
            tracks_.push_back(pictures::masks_at_width(entity.track, width_px));
        }
    }

    [[nodiscard]] at::Tensor frame(std::int64_t t, std::size_t entity) const {
        return media::outline_mask(frames_[t], tracks_[entity][t], media::palette_color(entity), 2);
    }

    [[nodiscard]] at::Tensor map(std::int64_t t, std::size_t entity,
                                 const analysis::VideoRecord& record, std::int64_t layer,
                                 bool v2v) const {
        const at::Tensor& maps = v2v ? record.v2v : record.v2t;  // [E, l, F, gh, gw]
        const at::Tensor shown =
            scaled(maps[static_cast<std::int64_t>(entity)][layer][latent_frame(t)]);
        const at::Tensor heat = media::overlay_heat(frames_[t], shown, 0, 1, 0.65);
        return media::outline_mask(heat, tracks_[entity][t], kOutline, 1);
    }

private:
    at::Tensor frames_;               // [T, h, w, 3]
    std::vector<at::Tensor> tracks_;  // by entity, [T, h, w]
};

std::vector<Column> columns_of(const DrawnClip& clip) {
    std::vector<Column> columns = {{"mask track", nullptr}};
    for (const DrawnClip::Reading& reading : clip.readings) {
        const std::string label = clip.readings.size() > 1 ? reading.label + ", " : "";
        columns.push_back({label + "v2t", &reading, false});
        columns.push_back({label + "v2v", &reading, true});
    }
    return columns;
}

/// One row of pictures: an entity in one frame. What was not read stays blank.
std::vector<at::Tensor> row_of(const Painter& painter, const std::vector<Column>& columns,
                               const DrawnClip& clip, std::size_t entity, std::int64_t t,
                               const ShownLayers& layers) {
    const analysis::Entity& e = clip.entities[entity];
    std::vector<at::Tensor> row;
    for (const Column& column : columns) {
        const std::int64_t layer = layers[variant_of(e.verb, column.v2v)];
        const bool read = column.v2v ? e.has_first_cells() : e.has_tokens();
        if (column.reading == nullptr) {
            row.push_back(painter.frame(t, entity));
        } else if (!read || layer < 0) {
            row.emplace_back();
        } else {
            row.push_back(
                media::label(painter.map(t, entity, column.reading->record, layer, column.v2v),
                             "layer " + std::to_string(layer), 4, 4, 0.4));
        }
    }
    return row;
}

std::string title_of(const analysis::Entity& entity) {
    return entity.name + "\n\"" + entity.word + "\"";
}

at::Tensor sheet(const DrawnClip& clip, const Painter& painter, const std::vector<Column>& columns,
                 const std::vector<std::int64_t>& frames, const ShownLayers& layers) {
    media::Grid grid;
    for (const Column& column : columns) {
        grid.column_captions.push_back(column.caption);
    }
    grid.text_scale = 0.45;
    for (std::size_t entity = 0; entity < clip.entities.size(); ++entity) {
        for (const std::int64_t t : frames) {
            grid.rows.push_back(row_of(painter, columns, clip, entity, t, layers));
            grid.row_captions.push_back(title_of(clip.entities[entity]) + "\nframe " +
                                        std::to_string(t));
        }
    }
    return media::tile(grid);
}

/// All layers of every entity that was read, in one frame.
at::Tensor layer_sheet(const DrawnClip& clip, const Painter& painter, std::int64_t t, bool v2v) {
    constexpr std::int64_t kAcross = 7;
    media::Grid grid;
    grid.text_scale = 0.45;
    for (const DrawnClip::Reading& reading : clip.readings) {
        for (std::size_t entity = 0; entity < clip.entities.size(); ++entity) {
            const analysis::Entity& e = clip.entities[entity];
            if (!(v2v ? e.has_first_cells() : e.has_tokens())) {
                continue;
            }
            for (std::int64_t layer = 0; layer < reading.record.num_layers(); ++layer) {
                if (layer % kAcross == 0) {
                    grid.rows.emplace_back();
                    grid.row_captions.push_back(layer == 0 ? title_of(e) + "\n" + reading.label
                                                           : "");
                }
                grid.rows.back().push_back(
                    media::label(painter.map(t, entity, reading.record, layer, v2v),
                                 "L" + std::to_string(layer), 3, 3, 0.4));
            }
            grid.rows.back().resize(kAcross);
        }
    }
    return grid.rows.empty() ? at::Tensor() : media::tile(grid);
}

at::Tensor even_size(const at::Tensor& picture) {
    return picture.narrow(0, 0, picture.size(0) / 2 * 2).narrow(1, 0, picture.size(1) / 2 * 2);
}

}  // namespace

ShownLayers shown_layers(const analysis::Summary& summary) {
    ShownLayers layers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const std::vector<std::int64_t>& chosen = summary.variants[i].choice.layers;
        layers[i] = chosen.empty() ? -1 : chosen.front();
    }
    return layers;
}

at::Tensor draw_clip(const std::filesystem::path& directory, const std::string& stem,
                     const DrawnClip& clip, const ShownLayers& layers) {
    const std::int64_t frames = clip.frames.size(0);
    const Painter painter(clip, kWidthPx), thumbnails(clip, kThumbnailPx);
    const std::vector<Column> columns = columns_of(clip);
    const at::Tensor stills =
        sheet(clip, painter, columns, {0, (frames - 1) / 2, frames - 1}, layers);
    media::write_png(directory / (stem + ".png"), stills);

    std::vector<at::Tensor> video;
    for (std::int64_t t = 0; t < frames; ++t) {
        video.push_back(even_size(sheet(clip, painter, columns, {t}, layers)));
    }
    // The captions are as wide in all frames, but for the digits of the frame's number.
    std::int64_t width = video[0].size(1);
    for (const at::Tensor& frame : video) {
        width = std::min(width, frame.size(1));
    }
    for (at::Tensor& frame : video) {
        frame = frame.narrow(1, frame.size(1) - width, width).contiguous();
    }
    media::write_video(directory / (stem + ".mp4"), at::stack(video), kFramesPerSecond);

    for (const bool v2v : {false, true}) {
        const at::Tensor all = layer_sheet(clip, thumbnails, (frames - 1) / 2, v2v);
        if (all.defined()) {
            media::write_png(directory / (stem + "-layers-" + (v2v ? "v2v" : "v2t") + ".png"), all);
        }
    }
    return stills;
}

}  // namespace matrix::cli::analyze
