#include "matrix/prepare/prepare.h"

#include "matrix/core/device_memory.h"
#include "matrix/core/error.h"
#include "matrix/data_cache/entries.h"
#include "matrix/data_cache/reader.h"
#include "matrix/data_source/clip.h"
#include "matrix/data_source/manifest.h"
#include "matrix/distributed/collective.h"
#include "matrix/log/log.h"
#include "matrix/log/progress.h"
#include "matrix/prepare/on_the_fly.h"
#include "prepare/crew.h"
#include "prepare/encode_clip.h"
#include "prepare/plan.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <map>
#include <ranges>
#include <set>
#include <utility>

namespace matrix::prepare {
namespace {

using data_cache::DataConfig;
using data_cache::EntryKind;

class Preparation {
public:
    Preparation(const PrepareOptions& options, const Encoders& encoders, Plan plan,
                const text::T5Tokenizer& tokenizer)
        : options_(options),
          encoders_(encoders),
          plan_(std::move(plan)),
          tokenizer_(tokenizer),
          crew_(options.ranks),
          cache_(*options.data.cache) {}

    void run() {
        // Whoever came first must not have changed what the others find missing.
        crew_.meet("planning the cache");
        // Each encoder is gone before the next model is loaded.
        encode_missing_prompts();
        release_cached_memory();
        crew_.meet("encoding prompts");
        encode_missing_clips();
        release_cached_memory();
        if (const auto faults = crew_.gather(faults_); !faults.empty()) {
            throw RunError(faults);
        }
        if (crew_.is_main()) {
            fill_tokens();
            plan_.index.save(cache_);
        }
        crew_.meet("writing the cache's index");
    }

private:
    void encode_missing_prompts() {
        const auto prompts = crew_.share(std::vector<std::pair<std::string, std::string>>(
            plan_.prompts.begin(), plan_.prompts.end()));
        if (prompts.empty()) {
            return;
        }
        std::vector<std::string> keys, texts;
        for (const auto& [key, text] : prompts) {
            keys.push_back(key);
            texts.push_back(text);
        }
        const Encode encode = encoders_.load_text();
        encode_prompts(
            encode, tokenizer_.input_ids(texts), [&](std::int64_t i, const at::Tensor& embedding) {
                data_cache::write_entry(cache_, EntryKind::kPrompt,
                                        keys[static_cast<std::size_t>(i)], {{"prompt", embedding}});
            });
    }

    void encode_missing_clips() {
        const std::vector<DecodeJob> jobs = crew_.share(plan_.jobs);
        const bool needs_vae = std::ranges::any_of(
            jobs, [](const DecodeJob& job) { return job.parts.video || job.parts.id_map; });
        const Encode encode = needs_vae ? encoders_.load_video() : Encode();
        const std::size_t total = plan_.jobs.size();
        log::Progress progress("clips", static_cast<std::int64_t>(total));
        DecodeAhead decoded(plan_.manifest.rows, options_.data, jobs, options_.num_decoders);
        for (std::size_t done = 0; done < total; done += crew_.size()) {
            std::string name;
            if (const auto next = decoded.next()) {
                const DecodeJob& job = jobs[next->job];
                if (next->faults.empty()) {
                    encode_clip(encode, job, next->clip);
                }
                faults_.insert(faults_.end(), next->faults.begin(), next->faults.end());
                name = plan_.manifest.rows[job.row].video;
            }
            progress.update(static_cast<std::int64_t>(std::min(done + crew_.size(), total)), name);
            crew_.meet("encoding clips, " + std::to_string(done) + " of " + std::to_string(total));
        }
    }

    void encode_clip(const Encode& encode, const DecodeJob& job, const data_source::Clip& clip) {
        const data_cache::CachedClip& entry = plan_.index.clips[job.row];
        if (job.parts.tracks) {
            const std::vector<std::int64_t> pixels = data_source::count_pixels(clip.tracks);
            data_cache::write_entry(
                cache_, EntryKind::kMasks, entry.masks_key,
                {{"ids", at::tensor(clip.ids, at::kLong)},
                 {"pixels", at::tensor(pixels, at::kLong)},
                 {"tracks", data_cache::pack_bits(clip.tracks)},
                 {"query_half", data_source::first_frame_cells(clip.tracks, false)},
                 {"query_nearest", data_source::first_frame_cells(clip.tracks, true)}});
        }
        if (job.parts.id_map) {
            data_cache::write_entry(
                cache_, EntryKind::kIdMap, entry.id_map_key,
                {{"id_map_mean", encode_id_map(encode, clip.id_map, entry.video)}});
        }
        if (job.parts.video) {
            data_cache::write_entry(cache_, EntryKind::kVideo, entry.video_key,
                                    encode_video(encode, clip.video, entry.hashes.video,
                                                 options_.data.image_noise_draws, entry.video),
                                    {{"fps", nlohmann::json(clip.frames_per_second).dump()}});
        }
    }

    void fill_tokens() {
        for (std::size_t i = 0; i < plan_.index.clips.size(); ++i) {
            data_cache::CachedClip& clip = plan_.index.clips[i];
            if (clip.interactions.empty()) {
                continue;
            }
            const auto masks =
                data_cache::open_entry(cache_, EntryKind::kMasks, clip.masks_key, options_.data);
            const auto values = [&](const char* name) {
                const at::Tensor tensor = masks.tensor(name);
                const auto* begin = tensor.const_data_ptr<std::int64_t>();
                return std::vector<std::int64_t>(begin, begin + tensor.numel());
            };
            at::Tensor& token_mask = plan_.texts[i].token_mask;  // [N, 3, L]
            data_source::drop_verbs_without_masks(token_mask, plan_.manifest.rows[i].interactions,
                                                  values("ids"), values("pixels"));
            for (std::size_t n = 0; n < clip.interactions.size(); ++n) {
                for (std::size_t role = 0; role < 3; ++role) {
                    const at::Tensor tokens =
                        token_mask[static_cast<std::int64_t>(n)][static_cast<std::int64_t>(role)]
                            .nonzero()
                            .squeeze(1)
                            .contiguous();
                    const auto* begin = tokens.const_data_ptr<std::int64_t>();
                    clip.interactions[n].tokens[role].assign(begin, begin + tokens.numel());
                }
            }
        }
    }

    const PrepareOptions& options_;
    const Encoders& encoders_;
    Plan plan_;
    const text::T5Tokenizer& tokenizer_;
    Crew crew_;
    std::filesystem::path cache_;
    std::vector<std::string> faults_;
};

void require_usable(const DataConfig& config) {
    const auto faults = data_cache::check(config);
    if (!faults.empty()) {
        throw UsageError(faults);
    }
}

// A complete cache may be all that was copied to a machine that only trains. Where raw videos lie
// with rank 0 alone, it decides: preparing is something that all ranks do or none.
bool travels_alone(const PrepareOptions& options, const data_cache::EncoderIds& ids) {
    const auto here = [&]() -> std::string {
        std::error_code ignored;
        const bool can_prepare = std::filesystem::exists(options.data.path, ignored) &&
                                 !ids.vae.empty() && !ids.text.empty();
        return !can_prepare &&
                       std::filesystem::exists(data_cache::index_path(*options.data.cache), ignored)
                   ? "alone"
                   : "";
    };
    return !(options.ranks == nullptr
                 ? here()
                 : distributed::from_rank_0(*options.ranks, here, "looking for the data set"))
                .empty();
}

void say_counts(const std::string& cache, std::int64_t num_clips, std::int64_t num_without) {
    log::info(cache + ": " + std::to_string(num_clips) + " clips" +
              (num_without > 0
                   ? ", " + std::to_string(num_without) +
                         " of them without interactions: they train the denoising loss alone"
                   : ""));
}

void bring_up_to_date(const PrepareOptions& options, const Encoders& encoders,
                      const data_cache::EncoderIds& ids, data_cache::FileHashes& hashes) {
    data_cache::remove_abandoned(*options.data.cache);
    const text::T5Tokenizer tokenizer(options.model / "tokenizer");
    Plan plan = make_plan(options.data, ids, tokenizer, hashes);
    std::ranges::for_each(plan.notes, [](const std::string& note) { log::warning(note); });
    const auto clips = static_cast<std::int64_t>(plan.manifest.rows.size());
    const std::int64_t without = std::ranges::count_if(
        plan.manifest.rows, [](const auto& row) { return row.interactions.empty(); });
    Preparation(options, encoders, std::move(plan), tokenizer).run();
    say_counts(*options.data.cache, clips, without);
}

}  // namespace

void prepare(const PrepareOptions& options) {
    prepare(options, model_encoders(options.model, options.dtype, options.device));
}

void prepare(const PrepareOptions& options, const Encoders& encoders) {
    require_usable(options.data);
    if (!options.data.cache) {
        throw UsageError("data.cache: is null; name the folder that the encodings shall go to");
    }
    data_cache::FileHashes hashes(data_cache::hashes_path(*options.data.cache));
    const data_cache::EncoderIds ids = encoders.ids(hashes);
    bring_up_to_date(options, encoders, ids, hashes);
}

std::vector<std::string> verify(const PrepareOptions& options) {
    return verify(options, model_encoders(options.model, options.dtype, options.device));
}

namespace {

/// One line for each clip whose ID folders are not those that the cache was made from. Nothing
/// where the data set is not there: a cache may travel alone.
std::vector<std::string> changed_folders(const data_cache::CacheIndex& index,
                                         const DataConfig& data) {
    std::vector<std::string> faults;
    std::error_code ignored;
    if (!std::filesystem::exists(std::filesystem::path(data.path) / index.metadata_file, ignored)) {
        return faults;
    }
    std::map<std::string, const data_cache::CachedClip*> cached;
    for (const data_cache::CachedClip& clip : index.clips) {
        cached[clip.video] = &clip;
    }
    for (const data_source::Row& row : data_source::read_manifest(data.path).rows) {
        const data_source::ClipParts parts = data_source::parts_of(row, data);
        const auto clip = cached.find(row.video);
        if (clip == cached.end() || !(parts.tracks || parts.id_map) ||
            !std::filesystem::exists(row.mask_path, ignored)) {
            continue;
        }
        std::vector<std::string> names;
        std::ranges::transform(data_source::find_id_folders(row), std::back_inserter(names),
                               &data_source::IdFolder::name);
        std::ranges::sort(names);
        if (!std::ranges::equal(names, std::views::keys(clip->second->hashes.masks))) {
            faults.push_back(row.mask_path.string() +
                             ": ID folders have come or gone since the cache was prepared; run "
                             "`matrix prepare`");
        }
    }
    return faults;
}

}  // namespace

std::vector<std::string> verify(const PrepareOptions& options, const Encoders& encoders) {
    require_usable(options.data);
    if (!options.data.cache) {
        throw UsageError("data.cache: is null; there is no cache to verify");
    }
    const std::filesystem::path cache = *options.data.cache;
    data_cache::FileHashes hashes({});
    const data_cache::CacheIndex index = data_cache::CacheIndex::load(cache);
    std::vector<std::string> faults = data_cache::changed_sources(index, options.data.path, hashes);
    const auto folders = changed_folders(index, options.data);
    faults.insert(faults.end(), folders.begin(), folders.end());
    const auto damaged = data_cache::verify_cache(cache);
    faults.insert(faults.end(), damaged.begin(), damaged.end());
    try {
        const data_cache::CacheReader reader(cache, options.data, encoders.ids(hashes),
                                             options.nearest_query);
    } catch (const RunError& e) {
        std::ranges::copy_if(e.faults(), std::back_inserter(faults), [&](const std::string& fault) {
            return std::ranges::find(faults, fault) == faults.end();
        });
    }
    return faults;
}

std::unique_ptr<data_cache::SampleSource> open_source(const PrepareOptions& options) {
    return open_source(options, model_encoders(options.model, options.dtype, options.device));
}

std::unique_ptr<data_cache::SampleSource> open_source(const PrepareOptions& options,
                                                      const Encoders& encoders) {
    if (!options.data.cache) {
        require_usable(options.data);
        return std::make_unique<OnTheFlySource>(options, encoders);
    }
    const DataConfig& data = options.data;
    require_usable(data);
    data_cache::FileHashes hashes(data_cache::hashes_path(*data.cache));
    const data_cache::EncoderIds ids = encoders.ids(hashes);
    std::unique_ptr<data_cache::CacheReader> reader;
    if (travels_alone(options, ids)) {
        reader = data_cache::open_cache(data, ids, hashes, options.nearest_query);
        say_counts(*data.cache, reader->size(), reader->num_without_interactions());
    } else {
        bring_up_to_date(options, encoders, ids, hashes);
        reader = std::make_unique<data_cache::CacheReader>(*data.cache, data, ids,
                                                           options.nearest_query);
    }
    return reader;
}

}  // namespace matrix::prepare
