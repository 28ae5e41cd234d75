#include "matrix/data_source/sample.h"

#include "matrix/core/error.h"
#include "matrix/text/phrases.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace matrix::data_source {
namespace {

using data_cache::DataConfig;

enum Role : std::int64_t { kSubject = 0, kObject = 1, kVerb = 2 };

std::string treat(const std::string& text, const DataConfig& config) {
    return config.strip_id_markers ? text::strip_id_markers(text) : text;
}

std::int64_t position_of(const std::vector<std::int64_t>& ids, std::int64_t id) {
    const auto it = std::ranges::find(ids, id);
    return it == ids.end() ? -1 : it - ids.begin();
}

void fill_masks(const Clip& clip, const std::vector<Interaction>& interactions, bool nearest_query,
                RawSample& sample) {
    const at::Tensor cells = first_frame_cells(clip.tracks, nearest_query);  // [ids, gh, gw]
    const auto fill = [&](std::int64_t i, std::int64_t role, std::int64_t id) {
        const std::int64_t at = position_of(clip.ids, id);
        TORCH_CHECK(at >= 0, "the plan of ", sample.name, " let ID ", id, " pass without masks");
        sample.masks[i][role].copy_(clip.tracks[at]);
        sample.query_mask[i][role].copy_(cells[at]);
    };
    for (std::size_t i = 0; i < interactions.size(); ++i) {
        fill(static_cast<std::int64_t>(i), kSubject, interactions[i].subject.id);
        if (interactions[i].object) {
            fill(static_cast<std::int64_t>(i), kObject, interactions[i].object->id);
        }
    }
}

}  // namespace

std::string prompt_text(const Row& row, const DataConfig& config) {
    return treat(row.prompt, config);
}

RowText read_text(const Row& row, const DataConfig& config, const text::T5Tokenizer& tokenizer) {
    RowText result;
    result.prompt = prompt_text(row, config);
    const text::Encoding encoding = tokenizer.encode(result.prompt);
    result.input_ids = at::tensor(encoding.ids, at::kLong);
    result.token_mask = at::zeros(
        {static_cast<std::int64_t>(row.interactions.size()), 3, text::kMaxTokens}, at::kByte);
    std::vector<std::string> faults;
    const auto mark = [&](std::size_t i, Role role, const Phrase& phrase) {
        try {
            const auto span =
                text::find_phrase(result.prompt, treat(phrase.text, config), phrase.start);
            const auto tokens = text::token_mask(encoding, result.prompt, span);
            result.token_mask[static_cast<std::int64_t>(i)][role].copy_(tokens.mask);
            if (tokens.cut_off) {
                result.notes.push_back(
                    row.where + ": \"" + phrase.text + "\" is cut off by the limit of " +
                    std::to_string(text::kMaxTokens) + " tokens and counts as absent");
            }
        } catch (const RunError& e) {
            faults.push_back(row.where + ": " + e.what());
        }
    };
    for (std::size_t i = 0; i < row.interactions.size(); ++i) {
        const Interaction& interaction = row.interactions[i];
        mark(i, kSubject, interaction.subject);
        if (interaction.object) {
            mark(i, kObject, *interaction.object);
        }
        mark(i, kVerb, interaction.verb);
    }
    if (!faults.empty()) {
        throw RunError(faults);
    }
    return result;
}

void drop_verbs_without_masks(at::Tensor& token_mask, const std::vector<Interaction>& interactions,
                              const std::vector<std::int64_t>& ids,
                              const std::vector<std::int64_t>& pixels) {
    const auto is_empty = [&](const Phrase& phrase) {
        const std::int64_t at = position_of(ids, phrase.id);
        return at < 0 || pixels[static_cast<std::size_t>(at)] == 0;
    };
    for (std::size_t i = 0; i < interactions.size(); ++i) {
        if (is_empty(interactions[i].subject) ||
            (interactions[i].object && is_empty(*interactions[i].object))) {
            token_mask[static_cast<std::int64_t>(i)][kVerb].zero_();
        }
    }
}

RawSample load_sample(const Row& row, const DataConfig& config, const text::T5Tokenizer& tokenizer,
                      bool nearest_query) {
    const RowText words = read_text(row, config, tokenizer);
    const Clip clip = load_clip(row, config, parts_of(row, config));
    const auto n = static_cast<std::int64_t>(row.interactions.size());
    RawSample sample;
    sample.name = row.video;
    sample.video = clip.video;
    sample.id_map = clip.id_map;
    sample.has_masks = !clip.ids.empty();
    sample.prompt = words.prompt;
    sample.input_ids = words.input_ids;
    sample.token_mask = words.token_mask;
    sample.notes = words.notes;
    sample.masks = at::zeros({n, 2, config.frames, config.height, config.width}, at::kByte);
    sample.query_mask = at::zeros({n, 2, config.height / 16, config.width / 16}, at::kByte);
    if (n > 0) {
        fill_masks(clip, row.interactions, nearest_query, sample);
        drop_verbs_without_masks(sample.token_mask, row.interactions, clip.ids,
                                 count_pixels(clip.tracks));
    }
    return sample;
}

}  // namespace matrix::data_source
