#include "matrix/pipeline/video_size.h"

#include <algorithm>

namespace matrix::pipeline {
namespace {

constexpr std::int64_t kAnySize = 300;  // sample_height and sample_width of 1.5
constexpr std::int64_t kAuthorsHeight = 768;
constexpr std::int64_t kAuthorsWidth = 1360;

/// The fault of `value` unless it is `step` k + `offset`; k from `first`.
void check_multiple(const std::string& name, std::int64_t value, std::int64_t step,
                    std::int64_t offset, std::int64_t first, std::vector<std::string>& faults) {
    if (value >= step * first + offset && (value - offset) % step == 0) {
        return;
    }
    const std::int64_t below = std::max((value - offset) / step, first);
    const std::int64_t lower = step * below + offset, upper = lower + step;
    const std::string rule = offset == 0 ? "a multiple of " + std::to_string(step)
                                         : std::to_string(step) + "k + " + std::to_string(offset);
    faults.push_back(name + ": " + std::to_string(value) + " is not " + rule +
                     "; the nearest are " + std::to_string(lower) + " and " +
                     std::to_string(upper));
}

/// A rotary table that is not resized (1.5) ends where the config's sample does.
void check_at_most(const std::string& name, std::int64_t value, std::int64_t limit,
                   std::vector<std::string>& faults) {
    if (value > limit) {
        faults.push_back(name + ": " + std::to_string(value) +
                         " is more than the model's position table has; the most is " +
                         std::to_string(limit));
    }
}

void check_learned(const std::string& name, std::int64_t value, std::int64_t wanted,
                   std::vector<std::string>& faults) {
    if (value != wanted) {
        faults.push_back(name + ": " + std::to_string(value) +
                         " does not fit the model's learned position table, which allows " +
                         std::to_string(wanted) + " alone");
    }
}

}  // namespace

SizeRules read_size_rules(const std::filesystem::path& model) {
    return {models::CogVideoXConfig::from_file(model / "transformer" / "config.json"),
            models::VaeConfig::from_file(model / "vae" / "config.json")};
}

VideoSize default_size(const SizeRules& rules) {
    const models::CogVideoXConfig& config = rules.transformer;
    const std::int64_t pixels = models::spatial_downscale(rules.vae);
    VideoSize size{config.sample_frames, config.sample_height * pixels,
                   config.sample_width * pixels};
    if (config.patch_size_t && config.sample_height == kAnySize &&
        config.sample_width == kAnySize) {
        size.height_px = kAuthorsHeight;
        size.width_px = kAuthorsWidth;
    }
    return size;
}

double default_fps(const SizeRules& rules) {
    return rules.transformer.patch_size_t ? 16.0 : 8.0;
}

std::vector<std::string> check_size(const VideoSize& size, const SizeRules& rules) {
    std::vector<std::string> faults;
    const std::int64_t pixels = models::spatial_downscale(rules.vae);
    check_multiple("frames", size.num_frames, 2 * rules.vae.temporal_compression_ratio, 1, 0,
                   faults);
    if (rules.transformer.use_learned_positional_embeddings) {
        check_learned("height", size.height_px, rules.transformer.sample_height * pixels, faults);
        check_learned("width", size.width_px, rules.transformer.sample_width * pixels, faults);
        return faults;
    }
    if (rules.transformer.patch_size_t) {
        check_at_most("height", size.height_px, rules.transformer.sample_height * pixels, faults);
        check_at_most("width", size.width_px, rules.transformer.sample_width * pixels, faults);
    }
    const std::int64_t step = pixels * rules.transformer.patch_size;
    check_multiple("height", size.height_px, step, 0, 1, faults);
    check_multiple("width", size.width_px, step, 0, 1, faults);
    return faults;
}

LatentSize latent_size(const VideoSize& size, const SizeRules& rules) {
    const std::int64_t pixels = models::spatial_downscale(rules.vae);
    const std::int64_t patch = rules.transformer.patch_size_t.value_or(1);
    LatentSize latents;
    latents.num_frames = (size.num_frames - 1) / rules.vae.temporal_compression_ratio + 1;
    latents.padding = (patch - latents.num_frames % patch) % patch;
    latents.num_frames += latents.padding;
    latents.height = size.height_px / pixels;
    latents.width = size.width_px / pixels;
    return latents;
}

}  // namespace matrix::pipeline
