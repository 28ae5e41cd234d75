#include "cli/analyze/clips.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "matrix/analysis/token_spans.h"
#include "matrix/core/error.h"
#include "matrix/log/log.h"
#include "matrix/text/phrases.h"

namespace matrix::cli::analyze {
namespace {

constexpr std::int64_t kEndToken = 1;

/// The tokens as the authors' analysis finds them, in place of those that training finds. An entity
/// that training gives none, since its phrase was cut off or its masks are empty, gets none.
void use_published_spans(AnalysedClip& clip, const ClipRules& rules) {
    const text::T5Tokenizer& tokenizer = rules.tokenizer;
    std::vector<std::string> pieces;
    for (const std::int64_t id : tokenizer.tokens(clip.sample.prompt).ids) {
        pieces.push_back(tokenizer.piece(id));
    }
    pieces.push_back(tokenizer.piece(kEndToken));
    for (analysis::Entity& entity : clip.entities) {
        if (!entity.has_tokens()) {
            continue;
        }
        entity.tokens = at::zeros_like(entity.tokens);
        const auto span = analysis::published_span(pieces, rules.data.strip_id_markers
                                                               ? text::strip_id_markers(entity.word)
                                                               : entity.word);
        if (!span || span->end > entity.tokens.numel()) {
            log::warning(clip.row.where + ": no span of tokens is like \"" + entity.word +
                         "\"; it has no v2t");
            continue;
        }
        entity.tokens.narrow(0, span->begin, span->end - span->begin).fill_(true);
    }
}

}  // namespace

AnalysedClip load_clip(const data_source::Row& row, const ClipRules& rules) {
    AnalysedClip clip{row, data_source::load_sample(row, rules.data, rules.tokenizer, false), {}};
    for (const std::string& note : clip.sample.notes) {
        log::warning(note);
    }
    clip.entities =
        analysis::entities_of(row.interactions, clip.sample.token_mask, clip.sample.masks);
    if (rules.published_spans) {
        use_published_spans(clip, rules);
    }
    if (std::ranges::none_of(clip.entities, [](const analysis::Entity& entity) {
            return entity.has_tokens() || entity.has_first_cells();
        })) {
        throw RunError(row.where + ": none of its words and instances can be looked at");
    }
    return clip;
}

}  // namespace matrix::cli::analyze
