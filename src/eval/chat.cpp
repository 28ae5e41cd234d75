#include "eval/chat.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>

#include "matrix/media/video.h"

namespace matrix::eval {
namespace {

constexpr std::int64_t kBytesPerToken = 4;

/// The largest vendor's published rule: within 2048 x 2048, then the shorter side at most 768, then
/// tiles of 512.
std::int64_t picture_tokens(std::int64_t width_px, std::int64_t height_px) {
    const auto width = static_cast<double>(width_px);
    const auto height = static_cast<double>(height_px);
    double scale = std::min(1.0, 2048.0 / std::max(width, height));
    scale = std::min(scale, 768.0 / std::min(width, height));
    const double tiles = std::ceil(width * scale / 512.0) * std::ceil(height * scale / 512.0);
    return 85 + 170 * static_cast<std::int64_t>(tiles);
}

}  // namespace

Json text_part(const std::string& text) {
    return {{"type", "text"}, {"text", text}};
}

Json picture_part(const std::string& name) {
    return {{"type", "image_url"}, {"image_url", {{"url", name}}}};
}

Json chat_request(const Form& form, const Asking& asking, std::vector<Json> parts) {
    const Json system = {{"role", "system"}, {"content", form.instruction}};
    const Json user = {{"role", "user"}, {"content", std::move(parts)}};
    const Json format = {{"name", form.name}, {"strict", true}, {"schema", form.schema}};
    return {{"model", asking.vlm},
            {"seed", asking.seed},
            {"messages", Json::array({system, user})},
            {"response_format", {{"type", "json_schema"}, {"json_schema", format}}}};
}

Cost cost_of(const Form& form, const std::string& text, std::int64_t pictures,
             std::int64_t width_px, std::int64_t height_px) {
    const auto bytes = static_cast<std::int64_t>(form.instruction.size() +
                                                 form.schema.dump().size() + text.size());
    const std::int64_t seen = pictures == 0 ? 0 : pictures * picture_tokens(width_px, height_px);
    return {1, pictures, bytes / kBytesPerToken + seen, form.usual_output_tokens};
}

std::vector<Json> frame_parts(const ReplyCache& cache, const std::filesystem::path& video,
                              const std::vector<std::int64_t>& frames) {
    const at::Tensor pictures = media::read_video_frames(video, frames);  // [n, H, W, 3]
    std::vector<Json> parts;
    for (std::size_t i = 0; i < frames.size(); ++i) {
        parts.push_back(text_part("Frame " + std::to_string(frames[i]) + ":"));
        parts.push_back(picture_part(cache.add_png(pictures[static_cast<std::int64_t>(i)])));
    }
    return parts;
}

Json object_schema(Json properties) {
    Json required = Json::array();
    for (const auto& [name, unused] : properties.items()) {
        required.push_back(name);
    }
    return {{"type", "object"},
            {"properties", std::move(properties)},
            {"required", std::move(required)},
            {"additionalProperties", false}};
}

Json array_schema(Json items) {
    return {{"type", "array"}, {"items", std::move(items)}};
}

Json enum_schema(std::vector<std::string> words) {
    return {{"type", "string"}, {"enum", std::move(words)}};
}

}  // namespace matrix::eval
