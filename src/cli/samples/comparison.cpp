#include "cli/samples/comparison.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "cli/pictures/sheet.h"
#include "matrix/media/draw.h"

namespace matrix::cli::samples {
namespace {

constexpr std::int64_t kShownFrames = 5;
constexpr std::int64_t kWidthPx = 240;
constexpr double kTextScale = 0.45;

std::vector<std::pair<std::string, at::Tensor>> rows_of(const Comparison& videos) {
    std::vector<std::pair<std::string, at::Tensor>> rows;
    if (videos.source.defined()) {
        rows.emplace_back("the clip", videos.source);
    }
    rows.emplace_back("base", videos.base);
    rows.emplace_back("with adapter", videos.adapter);
    return rows;
}

}  // namespace

at::Tensor side_by_side(const Comparison& videos) {
    const auto rows = rows_of(videos);
    const std::int64_t num_frames = videos.adapter.size(0);
    std::vector<at::Tensor> frames;
    for (std::int64_t t = 0; t < num_frames; ++t) {
        media::Grid grid;
        grid.rows.emplace_back();
        grid.text_scale = kTextScale;
        for (const auto& [name, video] : rows) {
            grid.column_captions.push_back(name);
            grid.rows.front().push_back(video[t]);
        }
        frames.push_back(media::tile(grid));
    }
    const at::Tensor all = at::stack(frames);
    constexpr int kWhite = 255;
    return at::constant_pad_nd(all, {0, 0, 0, all.size(2) % 2, 0, all.size(1) % 2}, kWhite);
}

at::Tensor contact_sheet(const Comparison& videos, const std::string& about_run,
                         std::int64_t step) {
    const std::int64_t num_frames = videos.adapter.size(0);
    const std::int64_t shown = std::min(kShownFrames, num_frames);
    media::Grid grid;
    grid.text_scale = kTextScale;
    std::vector<std::int64_t> times;
    for (std::int64_t i = 0; i < shown; ++i) {
        times.push_back(shown == 1 ? 0 : i * (num_frames - 1) / (shown - 1));
        grid.column_captions.push_back("frame " + std::to_string(times.back()));
    }
    for (const auto& [name, video] : rows_of(videos)) {
        grid.row_captions.push_back(name);
        const at::Tensor frames = pictures::frames_at_width(
            video.index_select(0, at::tensor(times, at::kLong)), kWidthPx);
        grid.rows.push_back(frames.unbind());
    }
    const std::string text = "Videos from the first frame and the prompt of " + videos.name +
                             ", after step " + std::to_string(step) + ", with the same noise.\n\"" +
                             videos.prompt + "\"\n" + about_run;
    return pictures::below({pictures::text_line(text, kTextScale), media::tile(grid)});
}

}  // namespace matrix::cli::samples
