#include "cli/analyze/work.h"

#include <ATen/ATen.h>

#include <map>
#include <nlohmann/json.hpp>

#include "cli/analyze/output.h"
#include "cli/fingerprints.h"
#include "cli/pictures/clips.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/core/signals.h"
#include "matrix/data_source/interactions.h"
#include "matrix/log/progress.h"

namespace matrix::cli::analyze {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Of what is read and how; other numbers are read again.
constexpr int kVersion = 1;

/// What all records of a command depend on.
json command_record(const Settings& s, const data_cache::DataConfig& data,
                    const pipeline::PipelineOptions& options) {
    json record = {{"version", kVersion},
                   {"model", fingerprint(s.model)},
                   {"adapter", s.adapter.empty() ? json(nullptr) : json(hash_path(s.adapter))},
                   {"strength", s.adapter_strength},
                   {"size", {data.frames, data.height, data.width}},
                   {"seed", s.seed},
                   {"device", options.device.is_cuda() ? "cuda" : "cpu"},
                   {"dtype", dtype_text(options.dtype)},
                   {"spans", s.spans}};
    record["mode"] = s.generate ? json{s.steps, s.guidance_scale} : json(s.timesteps);
    return record;
}

std::string made_from(json record, const data_source::Row& row) {
    record["prompt"] = row.prompt;
    record["interactions"] = data_source::write_interactions(row.interactions);
    record["video"] = {fs::file_size(row.video_path),
                       fs::last_write_time(row.video_path).time_since_epoch().count()};
    record["masks"] = fingerprint(row.mask_path);
    return record.dump(-1, ' ', false, json::error_handler_t::replace);
}

bool is_made_from(const fs::path& path, const std::string& made_from) {
    if (!fs::exists(path)) {
        return false;
    }
    try {
        return analysis::read_record(path).made_from == made_from;
    } catch (const RunError&) {
        return false;
    }
}

/// RunError for what a row lacks.
void check_row(const data_source::Row& row) {
    if (!fs::exists(row.video_path)) {
        throw RunError(row.where + ": there is no video " + row.video_path.string());
    }
    if (row.interactions.empty()) {
        throw RunError(row.where +
                       ": has no `interactions`, so nothing says which words and "
                       "instances to look at");
    }
}

}  // namespace

std::vector<Work> plan(const std::vector<data_source::Row>& rows, const Settings& settings,
                       const ClipRules& rules, const pipeline::PipelineOptions& options,
                       std::vector<std::string>& faults) {
    const json command = command_record(settings, rules.data, options);
    std::vector<Work> work;
    std::map<std::string, std::string> by_stem;  // what has the name of a row's files
    for (const data_source::Row& row : rows) {
        try {
            check_row(row);
            const auto [other, is_new] =
                by_stem.try_emplace(pictures::stem_of(row.video), row.video);
            if (!is_new) {
                throw RunError(row.where + ": its files would have the names of those of " +
                               other->second + "; give one of the two another name");
            }
            std::string from = made_from(command, row);
            const bool is_there = is_made_from(record_path(settings.out, row.video), from);
            at::Tensor ids = data_source::read_text(row, rules.data, rules.tokenizer).input_ids;
            work.push_back({&row, std::move(from), std::move(ids), is_there});
        } catch (const RunError& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        }
    }
    return work;
}

void read_missing(std::vector<Work>& work, const Settings& settings, const ClipRules& rules,
                  Reader& reader, std::vector<std::string>& faults) {
    std::vector<at::Tensor> prompts;
    for (const Work& clip : work) {
        if (!clip.is_there) {
            prompts.push_back(clip.input_ids);
        }
    }
    reader.encode_prompts(at::stack(prompts));
    reader.load();
    log::Progress progress("clips", static_cast<std::int64_t>(prompts.size()));
    std::int64_t done = 0;
    std::erase_if(work, [&](const Work& next) {
        if (next.is_there) {
            return false;
        }
        if (const auto signal = stop_signal()) {
            throw Stopped{*signal};
        }
        const std::int64_t prompt = done++;
        try {
            const std::string& video = next.row->video;
            const AnalysedClip clip = load_clip(*next.row, rules);
            analysis::VideoRecord record =
                reader.read(clip, prompt, video_path(settings.out, video));
            record.made_from = next.made_from;
            analysis::write_record(record_path(settings.out, video), record);
            progress.update(done);
            return false;
        } catch (const RunError& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
            return true;
        }
    });
}

}  // namespace matrix::cli::analyze
