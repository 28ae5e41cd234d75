#include "matrix/data_cache/reader.h"

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/random.h"
#include "matrix/data_cache/entries.h"
#include "matrix/log/log.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace matrix::data_cache {
namespace {

namespace fs = std::filesystem;

// Fields whose change asks for other entries. An ID map in the cache that a run does not want is
// simply not read.
constexpr std::array<const char*, 9> kSampleFields = {
    "frames",           "height",           "width", "resize", "sampling", "stride", "fps",
    "strip_id_markers", "image_noise_draws"};

void compare_config(const fs::path& cache, DataConfig cached, DataConfig wanted,
                    std::vector<std::string>& faults) {
    const auto has = fields(cached).write();
    const auto want = fields(wanted).write();
    for (const char* name : kSampleFields) {
        if (has.at(name) != want.at(name)) {
            faults.push_back(cache.string() + ": was prepared with data." + name + " = " +
                             has.at(name).dump() + ", not " + want.at(name).dump() +
                             "; run `matrix prepare`");
        }
    }
    if (wanted.id_map && !cached.id_map) {
        faults.push_back(cache.string() + ": was prepared without ID maps; run `matrix prepare`");
    }
}

void say_what_is_taken_on_trust(const DataConfig& config, const EncoderIds& encoders) {
    std::string names;
    const auto look = [&](bool there, const char* name) {
        if (!there) {
            names += (names.empty() ? "" : ", ") + std::string(name);
        }
    };
    std::error_code ignored;
    look(fs::exists(config.path, ignored), "the data set");
    look(!encoders.vae.empty(), "the VAE");
    look(!encoders.text.empty(), "the text encoder or its tokenizer");
    if (!names.empty()) {
        log::info(
            *config.cache +
            ": used as it stands; not here, and taken for what it was prepared with: " + names);
    }
}

}  // namespace

CacheReader::CacheReader(fs::path cache, const DataConfig& config, const EncoderIds& encoders,
                         bool nearest_query)
    : cache_(std::move(cache)),
      index_(CacheIndex::load(cache_)),
      id_map_(config.id_map),
      nearest_query_(nearest_query) {
    std::vector<std::string> faults;
    compare_config(cache_, index_.config, config, faults);
    const auto compare_encoder = [&](const char* name, const std::string& has,
                                     const std::string& want) {
        if (!want.empty() && has != want) {
            faults.push_back(cache_.string() + ": was prepared with another " + name +
                             " (its files or its dtype); run `matrix prepare`");
        }
    };
    compare_encoder("VAE", index_.encoders.vae, encoders.vae);
    compare_encoder("text encoder or tokenizer", index_.encoders.text, encoders.text);
    check_entries(faults);
    if (!faults.empty()) {
        throw RunError(faults);
    }
    num_tokens_ = empty_prompt().size(0);
}

void CacheReader::check_entries(std::vector<std::string>& faults) const {
    const auto check_one = [&](EntryKind kind, const std::string& key) {
        if (key.empty()) {
            return;
        }
        try {
            (void)open_entry(cache_, kind, key, index_.config);
        } catch (const RunError& e) {
            faults.insert(faults.end(), e.faults().begin(), e.faults().end());
        }
    };
    check_one(EntryKind::kPrompt, index_.empty_prompt_key);
    for (const CachedClip& clip : index_.clips) {
        check_one(EntryKind::kVideo, clip.video_key);
        check_one(EntryKind::kMasks, clip.masks_key);
        check_one(EntryKind::kIdMap, id_map_ ? clip.id_map_key : "");
        check_one(EntryKind::kPrompt, clip.prompt_key);
    }
}

tensor_io::SafetensorsFile CacheReader::entry(EntryKind kind, const std::string& key) const {
    tensor_io::SafetensorsFile file = open_entry(cache_, kind, key, index_.config);
    {
        const std::lock_guard lock(verified_mutex_);
        if (verified_.contains(file.path())) {
            return file;
        }
    }
    check_content(file);
    const std::lock_guard lock(verified_mutex_);
    verified_.insert(file.path());
    return file;
}

std::int64_t CacheReader::size() const {
    return static_cast<std::int64_t>(index_.clips.size());
}

std::string CacheReader::fingerprint() const {
    std::string keys;
    for (const CachedClip& clip : index_.clips) {
        for (const std::string& key :
             {clip.video_key, clip.masks_key, clip.id_map_key, clip.prompt_key}) {
            keys += key + '\n';
        }
    }
    return hash_text(keys);
}

at::Tensor CacheReader::empty_prompt() const {
    return entry(EntryKind::kPrompt, index_.empty_prompt_key).tensor("prompt");
}

EncodedSample CacheReader::get(std::int64_t index, std::uint64_t seed,
                               std::uint64_t sample_number) const {
    TORCH_CHECK(index >= 0 && index < size(), "sample ", index, " of ", size());
    const CachedClip& clip = index_.clips[static_cast<std::size_t>(index)];
    EncodedSample sample;
    sample.name = clip.video;
    const auto video = entry(EntryKind::kVideo, clip.video_key);
    sample.video_moments = video.tensor("video_moments");
    sample.image_clean_moments = video.tensor("image_clean_moments");
    const std::int64_t version =
        keyed_integer(index_.config.image_noise_draws, seed, Purpose::kImageVersion, sample_number);
    sample.image_moments = video.tensor("image_moments").select(0, version);
    if (id_map_ && !clip.id_map_key.empty()) {
        sample.id_map_mean = entry(EntryKind::kIdMap, clip.id_map_key).tensor("id_map_mean");
    }
    sample.prompt = entry(EntryKind::kPrompt, clip.prompt_key).tensor("prompt");
    read_interactions(clip, sample);
    return sample;
}

void CacheReader::read_interactions(const CachedClip& clip, EncodedSample& sample) const {
    const DataConfig& c = index_.config;
    const auto n = static_cast<std::int64_t>(clip.interactions.size());
    sample.token_mask = at::zeros({n, 3, num_tokens_}, at::kByte);
    sample.query_mask = at::zeros({n, 2, c.height / 16, c.width / 16}, at::kByte);
    sample.masks = at::zeros({n, 2, c.frames, c.height, c.width}, at::kByte);
    if (n == 0) {
        return;
    }
    const auto masks = entry(EntryKind::kMasks, clip.masks_key);
    const at::Tensor ids = masks.tensor("ids");
    const at::Tensor tracks = masks.tensor("tracks");
    const at::Tensor cells = masks.tensor(nearest_query_ ? "query_nearest" : "query_half");
    const auto* id_values = ids.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < n; ++i) {
        const CachedInteraction& interaction = clip.interactions[static_cast<std::size_t>(i)];
        for (std::int64_t role = 0; role < 3; ++role) {
            for (const std::int64_t token : interaction.tokens[static_cast<std::size_t>(role)]) {
                TORCH_CHECK(token >= 0 && token < num_tokens_, clip.video, ": token ", token,
                            " of ", num_tokens_);
                sample.token_mask[i][role][token] = 1;
            }
        }
        for (std::int64_t role = 0; role < 2; ++role) {
            const std::int64_t id = interaction.ids[static_cast<std::size_t>(role)];
            if (id == 0) {
                continue;
            }
            const auto* found = std::find(id_values, id_values + ids.numel(), id);
            if (found == id_values + ids.numel()) {
                throw RunError(masks.path().string() + ": holds no ID " + std::to_string(id) +
                               "; delete it and run `matrix prepare`");
            }
            const std::int64_t row = found - id_values;
            unpack_bits(tracks[row], sample.masks[i][role]);
            sample.query_mask[i][role].copy_(cells[row]);
        }
    }
}

std::int64_t CacheReader::num_without_interactions() const {
    return std::ranges::count_if(index_.clips,
                                 [](const CachedClip& clip) { return clip.interactions.empty(); });
}

fs::path hashes_path(const fs::path& cache) {
    return cache / "hashes.json";
}

std::unique_ptr<CacheReader> open_cache(const DataConfig& config, const EncoderIds& encoders,
                                        FileHashes& hashes, bool nearest_query) {
    const fs::path cache = *config.cache;
    const auto changed = changed_sources(CacheIndex::load(cache), config.path, hashes);
    hashes.save();
    if (!changed.empty()) {
        throw RunError(changed);
    }
    say_what_is_taken_on_trust(config, encoders);
    return std::make_unique<CacheReader>(cache, config, encoders, nearest_query);
}

std::unique_ptr<CacheReader> open_cache(const DataConfig& config, const fs::path& model,
                                        const std::string& dtype, bool nearest_query) {
    if (!config.cache) {
        throw UsageError(
            "data.cache: is null, and this program was built without decoders; name a prepared "
            "cache");
    }
    FileHashes hashes(hashes_path(*config.cache));
    const EncoderIds encoders = encoder_ids(model, dtype, hashes);
    return open_cache(config, encoders, hashes, nearest_query);
}

}  // namespace matrix::data_cache
