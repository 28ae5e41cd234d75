#include "matrix/data_cache/index.h"

#include "matrix/core/error.h"
#include "matrix/core/files.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace matrix::data_cache {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxIndexBytes = std::size_t{1} << 30;
constexpr std::array<const char*, 3> kRoles = {"subject", "object", "verb"};

json write_config(const DataConfig& c) {
    return {{"frames", c.frames},
            {"height", c.height},
            {"width", c.width},
            {"resize", c.resize},
            {"sampling", c.sampling},
            {"stride", c.stride},
            {"fps", c.fps ? json(*c.fps) : json()},
            {"id_map", c.id_map},
            {"strip_id_markers", c.strip_id_markers},
            {"image_noise_draws", c.image_noise_draws}};
}

DataConfig read_config(const json& j) {
    DataConfig c;
    std::vector<std::string> faults;
    fields(c).read(j, faults, "config");
    for (auto& fault : check(c, "config")) {
        faults.push_back(std::move(fault));
    }
    if (!faults.empty()) {
        throw RunError(faults.front());
    }
    return c;
}

json write_clip(const CachedClip& clip) {
    json interactions = json::array();
    for (const CachedInteraction& interaction : clip.interactions) {
        json entry = {{"ids", interaction.ids}};
        for (std::size_t role = 0; role < kRoles.size(); ++role) {
            entry[kRoles[role]] = interaction.tokens[role];
        }
        interactions.push_back(std::move(entry));
    }
    return {{"video", clip.video},
            {"mask_root", clip.mask_root},
            {"video_hash", clip.hashes.video},
            {"mask_hashes", clip.hashes.masks},
            {"video_key", clip.video_key},
            {"masks_key", clip.masks_key},
            {"id_map_key", clip.id_map_key},
            {"prompt_key", clip.prompt_key},
            {"interactions", std::move(interactions)}};
}

// Keys become file names and folders are read: nothing but what this program writes is accepted.
std::string read_key(const json& j, const char* name) {
    auto key = j.at(name).get<std::string>();
    const bool plain = std::ranges::all_of(
        key, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
    if (!plain || (!key.empty() && key.size() != 32)) {
        throw RunError(std::string(name) + " is not a hash");
    }
    return key;
}

std::string read_relative(const json& j, const char* name) {
    auto text = j.at(name).get<std::string>();
    const fs::path path(text);
    if (path.is_absolute() || std::ranges::find(path, fs::path("..")) != path.end()) {
        throw RunError(std::string(name) + " leaves the data set's folder");
    }
    return text;
}

CachedInteraction read_interaction(const json& j) {
    CachedInteraction interaction;
    interaction.ids = j.at("ids").get<std::array<std::int64_t, 2>>();
    for (const std::int64_t id : interaction.ids) {
        if (id < 0 || id > 5) {
            throw RunError("an ID is not 0..5");
        }
    }
    for (std::size_t role = 0; role < kRoles.size(); ++role) {
        interaction.tokens[role] = j.at(kRoles[role]).get<std::vector<std::int64_t>>();
    }
    return interaction;
}

CachedClip read_clip(const json& j) {
    CachedClip clip;
    clip.video = read_relative(j, "video");
    clip.mask_root = read_relative(j, "mask_root");
    clip.hashes.video = read_key(j, "video_hash");
    clip.hashes.masks = j.at("mask_hashes").get<std::map<std::string, std::string>>();
    clip.video_key = read_key(j, "video_key");
    clip.masks_key = read_key(j, "masks_key");
    clip.id_map_key = read_key(j, "id_map_key");
    clip.prompt_key = read_key(j, "prompt_key");
    for (const json& interaction : j.at("interactions")) {
        clip.interactions.push_back(read_interaction(interaction));
    }
    if (clip.video_key.empty() || clip.prompt_key.empty() ||
        (!clip.interactions.empty() && clip.masks_key.empty())) {
        throw RunError("a row lacks an entry");
    }
    return clip;
}

CacheIndex read_index(const json& j) {
    CacheIndex index;
    index.config = read_config(j.at("config"));
    index.encoders.vae = read_key(j.at("encoders"), "vae");
    index.encoders.text = read_key(j.at("encoders"), "text");
    index.metadata_file = read_relative(j, "metadata_file");
    index.metadata_hash = read_key(j, "metadata_hash");
    index.empty_prompt_key = read_key(j, "empty_prompt_key");
    for (const json& clip : j.at("clips")) {
        index.clips.push_back(read_clip(clip));
    }
    if (index.empty_prompt_key.empty() || index.clips.empty()) {
        throw RunError("it holds no clips");
    }
    return index;
}

}  // namespace

fs::path index_path(const fs::path& cache) {
    return cache / "index.json";
}

CacheIndex CacheIndex::load(const fs::path& cache) {
    const fs::path path = index_path(cache);
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
        throw RunError(path.string() + ": there is no prepared cache; run `matrix prepare`");
    }
    const json j = parse_json(read_text_file(path, kMaxIndexBytes), path.string());
    const std::string remedy = "; run `matrix prepare`";
    try {
        if (const int format = j.at("format").get<int>(); format != kFormatVersion) {
            throw RunError("format version " + std::to_string(format) + ", this program reads " +
                           std::to_string(kFormatVersion));
        }
        return read_index(j);
    } catch (const Error& e) {
        throw RunError(path.string() + ": " + e.what() + remedy);
    } catch (const json::exception& e) {
        throw RunError(path.string() + ": damaged (" + e.what() + ")" + remedy);
    }
}

void CacheIndex::save(const fs::path& cache) const {
    json rows = json::array();
    for (const CachedClip& clip : clips) {
        rows.push_back(write_clip(clip));
    }
    const json j = {{"format", kFormatVersion},
                    {"config", write_config(config)},
                    {"encoders", {{"vae", encoders.vae}, {"text", encoders.text}}},
                    {"metadata_file", metadata_file},
                    {"metadata_hash", metadata_hash},
                    {"empty_prompt_key", empty_prompt_key},
                    {"clips", std::move(rows)}};
    const std::string text = j.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
    const fs::path path = index_path(cache);
    // A cache that is complete may lie on a file system that cannot be written.
    std::error_code ignored;
    if (!fs::exists(path, ignored) || read_text_file(path, kMaxIndexBytes) != text) {
        write_file_atomically(path, text);
    }
}

std::vector<std::string> list_masks(const fs::path& directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(directory, error), end; !error && it != end;
         it.increment(error)) {
        const std::string name = it->path().filename().string();
        const std::string extension = it->path().extension().string();
        if ((extension == ".png" || extension == ".PNG") && name.front() != '.') {
            names.push_back(name);
        }
    }
    if (error) {
        throw RunError(directory.string() + ": " + error.message());
    }
    std::ranges::sort(names);
    return names;
}

std::vector<std::string> changed_sources(const CacheIndex& index, const fs::path& data,
                                         FileHashes& hashes) {
    std::vector<std::string> faults;
    const auto compare = [&](const fs::path& path, const std::string& wanted, auto&& hash) {
        std::error_code ignored;
        if (fs::exists(path, ignored) && hash() != wanted) {
            faults.push_back(path.string() +
                             ": changed since the cache was prepared; run `matrix prepare`");
        }
    };
    const fs::path metadata = data / index.metadata_file;
    compare(metadata, index.metadata_hash, [&] { return hashes.file(metadata); });
    for (const CachedClip& clip : index.clips) {
        const fs::path video = data / clip.video;
        compare(video, clip.hashes.video, [&] { return hashes.file(video); });
        for (const auto& [name, hash] : clip.hashes.masks) {
            const fs::path folder = data / clip.mask_root / name;
            compare(folder, hash, [&] { return hashes.folder(folder, list_masks(folder)); });
        }
    }
    return faults;
}

}  // namespace matrix::data_cache
