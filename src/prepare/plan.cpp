#include "prepare/plan.h"

#include "matrix/core/error.h"
#include "matrix/data_cache/entries.h"
#include "matrix/data_source/doctor.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

namespace matrix::prepare {
namespace {

using data_cache::CachedClip;
using data_cache::DataConfig;
using data_cache::EntryKind;

class Planner {
public:
    Planner(const DataConfig& config, const data_cache::EncoderIds& encoders,
            const text::T5Tokenizer& tokenizer, data_cache::FileHashes& hashes)
        : config_(config),
          encoders_(encoders),
          tokenizer_(tokenizer),
          hashes_(hashes),
          cache_(*config.cache) {}

    Plan run() {
        plan_.manifest = data_source::read_manifest(config_.path);
        plan_.index.config = config_;
        plan_.index.encoders = encoders_;
        plan_.index.metadata_file = plan_.manifest.file.filename().string();
        plan_.index.metadata_hash = hashes_.file(plan_.manifest.file);
        plan_.index.empty_prompt_key = want_prompt("");
        for (std::size_t i = 0; i < plan_.manifest.rows.size(); ++i) {
            plan_row(i);
        }
        // A data set that is refused must not leave the beginning of a cache.
        if (report_.faults.empty() || std::filesystem::exists(cache_)) {
            hashes_.save();
        }
        if (!report_.faults.empty()) {
            throw RunError(report_.faults);
        }
        std::ranges::copy_if(report_.notes, std::back_inserter(plan_.notes),
                             [&](const std::string& note) {
                                 return std::ranges::find(plan_.notes, note) == plan_.notes.end();
                             });
        return std::move(plan_);
    }

private:
    // A row that needs work, or that cannot even be hashed, is looked at by the doctor, who finds
    // all its faults.
    void plan_row(std::size_t i) {
        const data_source::Row& row = plan_.manifest.rows[i];
        std::vector<std::string> faults;
        bool needs_work = false;
        try {
            plan_.texts.push_back(data_source::read_text(row, config_, tokenizer_));
            std::ranges::copy(plan_.texts.back().notes, std::back_inserter(plan_.notes));
            plan_.index.clips.push_back(describe(row, plan_.texts.back().prompt));
            needs_work = want_clip(i, plan_.index.clips.back());
        } catch (const RunError& e) {
            faults = e.faults();
        }
        if (!needs_work && faults.empty()) {
            return;
        }
        const std::size_t before = report_.faults.size();
        data_source::check_row(row, config_, &tokenizer_, data_source::Depth::kHeaders, report_);
        if (report_.faults.size() == before) {
            report_.faults.insert(report_.faults.end(), faults.begin(), faults.end());
        }
    }

    CachedClip describe(const data_source::Row& row, const std::string& prompt) {
        CachedClip clip;
        clip.video = row.video;
        clip.mask_root = row.mask_root;
        clip.hashes.video = hashes_.file(row.video_path);
        const data_source::ClipParts parts = data_source::parts_of(row, config_);
        if (parts.tracks || parts.id_map) {
            for (const data_source::IdFolder& folder : data_source::find_id_folders(row)) {
                clip.hashes.masks[folder.name] = hashes_.folder(folder.path, folder.files);
            }
        }
        clip.video_key = data_cache::video_key(config_, clip.hashes, encoders_);
        if (parts.tracks) {
            clip.masks_key = data_cache::masks_key(config_, clip.hashes);
        }
        if (parts.id_map && !clip.hashes.masks.empty()) {
            clip.id_map_key = data_cache::id_map_key(config_, clip.hashes, encoders_);
        }
        clip.prompt_key = want_prompt(prompt);
        for (const data_source::Interaction& interaction : row.interactions) {
            clip.interactions.push_back(
                {.tokens = {},
                 .ids = {interaction.subject.id, interaction.object ? interaction.object->id : 0}});
        }
        return clip;
    }

    std::string want_prompt(const std::string& text) {
        std::string key = data_cache::prompt_key(text, encoders_);
        if (is_missing(EntryKind::kPrompt, key)) {
            plan_.prompts.emplace(key, text);
        }
        return key;
    }

    bool want_clip(std::size_t row, const CachedClip& clip) {
        const data_source::ClipParts parts = {
            .video = is_missing(EntryKind::kVideo, clip.video_key),
            .tracks = is_missing(EntryKind::kMasks, clip.masks_key),
            .id_map = is_missing(EntryKind::kIdMap, clip.id_map_key)};
        if (!parts.video && !parts.tracks && !parts.id_map) {
            return false;
        }
        plan_.jobs.push_back({row, parts});
        return true;
    }

    // Each entry is asked for once, whichever rows share it.
    bool is_missing(EntryKind kind, const std::string& key) {
        return !key.empty() && seen_.insert({kind, key}).second &&
               !data_cache::has_entry(cache_, kind, key, config_);
    }

    const DataConfig& config_;
    const data_cache::EncoderIds& encoders_;
    const text::T5Tokenizer& tokenizer_;
    data_cache::FileHashes& hashes_;
    std::filesystem::path cache_;
    Plan plan_;
    data_source::DatasetReport report_;
    std::set<std::pair<EntryKind, std::string>> seen_;
};

}  // namespace

Plan make_plan(const DataConfig& config, const data_cache::EncoderIds& encoders,
               const text::T5Tokenizer& tokenizer, data_cache::FileHashes& hashes) {
    return Planner(config, encoders, tokenizer, hashes).run();
}

}  // namespace matrix::prepare
