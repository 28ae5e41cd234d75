#include "matrix/data_source/doctor.h"

#include "matrix/core/error.h"
#include "matrix/data_source/clip.h"
#include "matrix/data_source/sample.h"
#include "matrix/media/image.h"
#include "matrix/text/phrases.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

namespace matrix::data_source {
namespace {

using data_cache::DataConfig;

void collect(std::vector<std::string>& faults, auto&& step) {
    try {
        step();
    } catch (const RunError& e) {
        faults.insert(faults.end(), e.faults().begin(), e.faults().end());
    }
}

void check_phrases(const Row& row, const DataConfig& config, std::vector<std::string>& faults) {
    const std::string prompt = prompt_text(row, config);
    const auto check_phrase = [&](const Phrase& phrase) {
        try {
            const auto words =
                config.strip_id_markers ? text::strip_id_markers(phrase.text) : phrase.text;
            (void)text::find_phrase(prompt, words, phrase.start);
        } catch (const RunError& e) {
            faults.push_back(row.where + ": " + e.what());
        }
    };
    for (const Interaction& interaction : row.interactions) {
        check_phrase(interaction.subject);
        if (interaction.object) {
            check_phrase(*interaction.object);
        }
        check_phrase(interaction.verb);
    }
}

void check_text(const Row& row, const DataConfig& config, const text::T5Tokenizer* tokenizer,
                DatasetReport& report) {
    if (tokenizer == nullptr) {
        check_phrases(row, config, report.faults);
        return;
    }
    collect(report.faults, [&] {
        const RowText words = read_text(row, config, *tokenizer);
        report.notes.insert(report.notes.end(), words.notes.begin(), words.notes.end());
    });
}

// "10.png" sorts before "9.png": allowed, since sorting by name is the rule, but hardly meant.
void note_order(const IdFolder& folder, DatasetReport& report) {
    const auto is_number = [](const std::string& name) {
        return name.size() > 4 && std::all_of(name.begin(), name.end() - 4,
                                              [](char c) { return c >= '0' && c <= '9'; });
    };
    const auto out_of_order =
        std::ranges::adjacent_find(folder.files, [&](const auto& a, const auto& b) {
            return is_number(a) && is_number(b) && a.size() > b.size();
        });
    if (out_of_order != folder.files.end()) {
        report.notes.push_back(folder.path.string() +
                               ": masks are taken in the order of their names, " + *out_of_order +
                               " before " + *std::next(out_of_order) +
                               "; pad the numbers to one length (000.png)");
    }
}

void check_masks(const ClipPlan& plan, bool tracks, Depth depth, DatasetReport& report) {
    std::set<std::int64_t> frames = {0};
    if (tracks) {
        frames.insert(plan.indices.begin(), plan.indices.end());
    }
    for (const IdFolder& folder : plan.folders) {
        note_order(folder, report);
        for (const std::int64_t frame : frames) {
            collect(report.faults, [&] {
                const auto path = folder.path / folder.files[static_cast<std::size_t>(frame)];
                if (depth == Depth::kPixels) {
                    const at::Tensor mask = media::read_mask(path);
                    check_mask_size(path, mask.size(0), mask.size(1), plan.info);
                } else {
                    const media::ImageSize size = media::mask_size(path);
                    check_mask_size(path, size.height_px, size.width_px, plan.info);
                }
            });
        }
    }
}

}  // namespace

void check_row(const Row& row, const DataConfig& config, const text::T5Tokenizer* tokenizer,
               Depth depth, DatasetReport& report) {
    check_text(row, config, tokenizer, report);
    report.num_proposed +=
        std::ranges::any_of(row.interactions, [](const Interaction& i) { return i.proposed; }) ? 1
                                                                                               : 0;
    ClipPlan plan;
    collect(report.faults, [&] {
        plan = plan_clip(row, config);
        report.num_without_masks += plan.folders.empty() && config.id_map ? 1 : 0;
        check_masks(plan, parts_of(row, config).tracks, depth, report);
        if (depth == Depth::kPixels) {
            (void)load_clip(row, config, {.video = true, .tracks = false, .id_map = false});
        }
    });
}

DatasetReport check_dataset(const DataConfig& config, const text::T5Tokenizer* tokenizer,
                            Depth depth) {
    DatasetReport report;
    Manifest manifest;
    collect(report.faults, [&] { manifest = read_manifest(config.path); });
    report.num_clips = static_cast<std::int64_t>(manifest.rows.size());
    for (const Row& row : manifest.rows) {
        report.num_without_interactions += row.interactions.empty() ? 1 : 0;
        check_row(row, config, tokenizer, depth, report);
    }
    return report;
}

}  // namespace matrix::data_source
