#include "cli/check/overlays.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>

#include "cli/pictures/sheet.h"
#include "matrix/media/draw.h"
#include "matrix/media/geometry.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::cli::check {
namespace {

using data_source::ClipPlan;
using data_source::IdFolder;
using data_source::Interaction;
using data_source::Phrase;
using data_source::Row;

constexpr std::int64_t kShown = 6, kColumns = 3, kWidthPx = 420;
constexpr std::size_t kLineLetters = 130;

std::string wrapped(const std::string& text) {
    std::string out, line, word;
    for (std::size_t i = 0; i <= text.size(); ++i) {
        if (i < text.size() && text[i] != ' ' && text[i] != '\n') {
            word += text[i];
            continue;
        }
        if (!line.empty() && line.size() + 1 + word.size() > kLineLetters) {
            out += line + '\n';
            line.clear();
        }
        line += (line.empty() ? "" : " ") + word;
        word.clear();
    }
    return out + line;
}

std::string roles_text(const Row& row) {
    if (row.interactions.empty()) {
        return "No interactions.";
    }
    const auto who = [](const Phrase& phrase) {
        return "<id" + std::to_string(phrase.id) + "> " + phrase.text;
    };
    std::string text;
    for (const Interaction& interaction : row.interactions) {
        text += (text.empty() ? "" : "\n") + who(interaction.subject) + " | " +
                interaction.verb.text +
                (interaction.object ? " | " + who(*interaction.object) : "") +
                (interaction.proposed ? "   (proposed)" : "");
    }
    return text;
}

media::Color color_of(std::int64_t id) {
    const at::Tensor pixel = media::paint_id_map({at::ones({1, 1}, at::kByte)}, {id});
    const auto* rgb = pixel.const_data_ptr<std::uint8_t>();
    return {rgb[0], rgb[1], rgb[2]};
}

/// Left and top of the set pixels.
std::pair<std::int64_t, std::int64_t> corner_of(const at::Tensor& mask) {
    const at::Tensor rows = mask.amax(1).nonzero(), columns = mask.amax(0).nonzero();
    return {columns[0].item<std::int64_t>(), rows[0].item<std::int64_t>()};
}

/// One frame with what its masks show; an ID without a mask here is said below.
at::Tensor marked(at::Tensor picture, const ClipPlan& plan, std::int64_t frame) {
    const std::int64_t height = picture.size(0), width = picture.size(1);
    std::string missing;
    std::vector<std::function<void()>> labels;  // above all outlines
    for (const IdFolder& folder : plan.folders) {
        const auto index = static_cast<std::size_t>(frame);
        at::Tensor mask;  // [H, W]
        if (index < folder.files.size()) {
            const at::Tensor whole = media::read_mask(folder.path / folder.files[index]);
            mask = media::resize_mask(whole, media::fit(whole.size(0), whole.size(1), height, width,
                                                        media::Resize::kStretch));
        }
        if (!mask.defined() || !mask.any().item<bool>()) {
            missing += " ID " + std::to_string(folder.id);
            continue;
        }
        picture = media::outline_mask(picture, mask, color_of(folder.id));
        labels.emplace_back([&picture, text = "id" + std::to_string(folder.id), mask, width] {
            const auto [left, top] = corner_of(mask);
            const std::int64_t right = width - media::text_width_px(text, 0.45) - 8;
            picture = media::label(picture, text, std::max<std::int64_t>(0, std::min(left, right)),
                                   std::max<std::int64_t>(0, top - 18), 0.45);
        });
    }
    for (const auto& draw : labels) {
        draw();
    }
    return pictures::with_text_below(
        picture,
        "frame " + std::to_string(frame) + (missing.empty() ? "" : ", nothing of" + missing));
}

}  // namespace

at::Tensor overlay_sheet(const Row& row, const ClipPlan& plan) {
    std::vector<std::int64_t> frames;
    const auto last = static_cast<std::int64_t>(plan.indices.size()) - 1;
    for (std::int64_t k = 0; k < kShown; ++k) {
        const std::int64_t frame = plan.indices[static_cast<std::size_t>(last * k / (kShown - 1))];
        if (frames.empty() || frame > frames.back()) {
            frames.push_back(frame);
        }
    }
    const at::Tensor pictures =
        pictures::frames_at_width(media::read_video_frames(row.video_path, frames), kWidthPx);
    std::vector<at::Tensor> parts = {
        pictures::text_line(row.video, 0.62),
        pictures::text_line(wrapped("Prompt: " + row.prompt), 0.5),
        pictures::text_line(roles_text(row), 0.5),
    };
    std::vector<at::Tensor> line;
    for (std::size_t i = 0; i < frames.size(); ++i) {
        line.push_back(
            marked(pictures[static_cast<std::int64_t>(i)].contiguous(), plan, frames[i]));
        if (line.size() == kColumns || i + 1 == frames.size()) {
            parts.push_back(pictures::beside(line));
            line.clear();
        }
    }
    return pictures::below(parts);
}

}  // namespace matrix::cli::check
