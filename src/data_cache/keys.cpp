#include "matrix/data_cache/keys.h"

#include "matrix/core/files.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <vector>

namespace matrix::data_cache {
namespace {

namespace fs = std::filesystem;

// The regular files of `directory` with one of these extensions, sorted by name.
std::vector<std::string> list_files(const fs::path& directory,
                                    const std::vector<std::string>& extensions) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(directory, error), end; !error && it != end;
         it.increment(error)) {
        const auto extension = it->path().extension().string();
        if (it->is_regular_file(error) &&
            std::ranges::find(extensions, extension) != extensions.end()) {
            names.push_back(it->path().filename().string());
        }
    }
    std::ranges::sort(names);
    return names;
}

std::string hash_json(const nlohmann::json& json) {
    return hash_text(json.dump());
}

nlohmann::json geometry(const DataConfig& c) {
    return {{"height", c.height}, {"width", c.width}, {"resize", c.resize}};
}

nlohmann::json sampling(const DataConfig& c) {
    return {{"frames", c.frames},
            {"sampling", c.sampling},
            {"stride", c.stride},
            {"fps", c.fps ? nlohmann::json(*c.fps) : nlohmann::json()}};
}

}  // namespace

EncoderIds encoder_ids(const fs::path& model, const std::string& dtype, FileHashes& hashes) {
    // Empty without `needed`: what is left of a component does not tell which one it was.
    const auto component = [&](const char* folder, const char* needed) {
        const fs::path directory = model / folder;
        return list_files(directory, {needed}).empty()
                   ? std::string()
                   : hashes.folder(directory, list_files(directory, {".json", needed}));
    };
    const std::string vae = component("vae", ".safetensors");
    const std::string encoder = component("text_encoder", ".safetensors");
    const std::string tokenizer = component("tokenizer", ".model");
    EncoderIds ids;
    if (!vae.empty()) {
        ids.vae = hash_json({{"vae", vae}, {"dtype", dtype}});
    }
    if (!encoder.empty() && !tokenizer.empty()) {
        ids.text = hash_json({{"encoder", encoder}, {"tokenizer", tokenizer}, {"dtype", dtype}});
    }
    return ids;
}

std::string video_key(const DataConfig& config, const ClipHashes& clip,
                      const EncoderIds& encoders) {
    return hash_json({{"kind", "video"},
                      {"format", kFormatVersion},
                      {"video", clip.video},
                      {"geometry", geometry(config)},
                      {"frames", sampling(config)},
                      {"image_noise_draws", config.image_noise_draws},
                      {"encoder", encoders.vae}});
}

// Masks follow the video's size and times, hence its hash.
std::string masks_key(const DataConfig& config, const ClipHashes& clip) {
    return hash_json({{"kind", "masks"},
                      {"format", kFormatVersion},
                      {"video", clip.video},
                      {"masks", clip.masks},
                      {"geometry", geometry(config)},
                      {"frames", sampling(config)}});
}

std::string id_map_key(const DataConfig& config, const ClipHashes& clip,
                       const EncoderIds& encoders) {
    return hash_json({{"kind", "id_map"},
                      {"format", kFormatVersion},
                      {"video", clip.video},
                      {"masks", clip.masks},
                      {"geometry", geometry(config)},
                      {"encoder", encoders.vae}});
}

std::string prompt_key(const std::string& text, const EncoderIds& encoders) {
    return hash_json({{"kind", "prompt"},
                      {"format", kFormatVersion},
                      {"text", hash_text(text)},
                      {"encoder", encoders.text}});
}

}  // namespace matrix::data_cache
