#include "cli/pictures/swapped_roles.h"

#include <ATen/ATen.h>

#include "cli/pictures/overlay_sheet.h"
#include "cli/pictures/sheet.h"
#include "matrix/data_source/sample.h"
#include "matrix/media/draw.h"
#include "matrix/text/phrases.h"

namespace matrix::cli::pictures {
namespace {

constexpr std::int64_t kWidthPx = 320;

std::int64_t length_of(text::Span span) {
    return span.end - span.begin;
}

/// Byte at which code point `index` begins.
std::size_t byte_offset(const std::string& text, std::int64_t index) {
    std::size_t byte = 0;
    for (; byte < text.size(); ++byte) {
        const bool continues = (static_cast<unsigned char>(text[byte]) & 0xc0) == 0x80;
        if (!continues && index-- == 0) {
            break;
        }
    }
    return byte;
}

std::string slice(const std::string& text, std::int64_t begin, std::int64_t end) {
    const std::size_t first = byte_offset(text, begin);
    return text.substr(first, byte_offset(text, end) - first);
}

std::string scores_line(const at::Tensor& map, const PictureClip& clip, std::int64_t entity) {
    const at::Tensor own = clip.track(entity), other = clip.track(1 - entity);
    return "AUC " + score_text(map_auc(map, own, 0)) + "   own vs other " +
           score_text(map_bind(map, own, other, 0));
}

at::Tensor clip_grid(const PictureClip& clip, const WordCheck& check) {
    media::Grid grid;
    grid.column_captions = {"mask of the phrase", "prompt as written", "roles swapped",
                            "ID map zeroed"};
    const std::int64_t middle = check.as_written.size(1) / 2;
    const Panel panel(clip, middle, kWidthPx);
    for (std::int64_t entity = 0; entity < 2; ++entity) {
        std::vector<at::Tensor> row = {
            with_text_below(panel.mask(entity), "frame " + std::to_string(pixel_frame(middle)))};
        for (const at::Tensor& maps : {check.as_written, check.swapped, check.without_id_map}) {
            row.push_back(
                maps.defined()
                    ? with_text_below(panel.attention(standardised(maps[entity], 0), entity),
                                      scores_line(maps[entity], clip, entity))
                    : at::Tensor());
        }
        grid.rows.push_back(std::move(row));
        grid.row_captions.push_back("words\n\"" + clip.phrase(entity) + "\"");
    }
    const std::string set = clip.set == "train" ? "Training clip " : "Held-out clip ";
    const std::string swapped =
        check.swapped.defined() ? "\nRoles swapped: " + check.swapped_prompt : "";
    return below({text_line(set + clip.stem + "\nAs written: " + clip.prompt() + swapped, 0.5),
                  media::tile(grid)});
}

}  // namespace

std::optional<data_source::Row> swap_roles(const data_source::Row& row,
                                           const data_cache::DataConfig& data) {
    const data_source::Interaction& roles = row.interactions.front();
    const std::string prompt = data_source::prompt_text(row, data);
    const auto spoken = [&](const data_source::Phrase& phrase) {
        return data.strip_id_markers ? text::strip_id_markers(phrase.text) : phrase.text;
    };
    const auto span_of = [&](const data_source::Phrase& phrase) {
        return text::find_phrase(prompt, spoken(phrase), phrase.start);
    };
    const text::Span subject = span_of(roles.subject), object = span_of(*roles.object),
                     verb = span_of(roles.verb);
    const bool subject_first = subject.begin < object.begin;
    const text::Span first = subject_first ? subject : object,
                     second = subject_first ? object : subject;
    if (first.end > second.begin || spoken(roles.subject) == spoken(*roles.object)) {
        return std::nullopt;
    }
    const auto length = static_cast<std::int64_t>(prompt.size());  // no fewer than its code points
    const std::int64_t longer = length_of(second) - length_of(first);

    data_source::Row swapped = row;
    swapped.prompt = slice(prompt, 0, first.begin) + slice(prompt, second.begin, second.end) +
                     slice(prompt, first.end, second.begin) +
                     slice(prompt, first.begin, first.end) + slice(prompt, second.end, length);
    data_source::Interaction& now = swapped.interactions.front();
    const std::int64_t start_of_second = first.begin, start_of_first = second.begin + longer;
    now.subject.start = subject_first ? start_of_first : start_of_second;
    now.object->start = subject_first ? start_of_second : start_of_first;
    const bool verb_between = verb.begin >= first.end && verb.begin < second.begin;
    now.verb.start = verb.begin + (verb_between ? longer : 0);
    return swapped;
}

WordCheck check_words(const PictureClip& clip, const train::RunParts& parts,
                      const alignment::AlignmentConfig& config, const text::T5Tokenizer& tokenizer,
                      const EncodeText& encode) {
    WordCheck check;
    check.as_written = read_maps(parts, config, clip.batch).words;
    if (const auto row = swap_roles(clip.row, clip.data)) {
        const data_source::RowText words = data_source::read_text(*row, clip.data, tokenizer);
        train::Batch batch = clip.batch;
        batch.encoder_hidden_states =
            encode(words.input_ids.unsqueeze(0)).to(batch.encoder_hidden_states.dtype());
        batch.supervision.token_mask = words.token_mask.unsqueeze(0);  // [1, 1, 3, L]
        check.swapped_prompt = words.prompt;
        check.swapped = read_maps(parts, config, batch).words;
    }
    if (clip.batch.id_map_latents.defined()) {
        train::Batch batch = clip.batch;
        batch.id_map_latents = at::zeros_like(batch.id_map_latents);
        check.without_id_map = read_maps(parts, config, batch).words;
    }
    return check;
}

at::Tensor word_check_sheet(const std::vector<PictureClip>& clips,
                            const std::vector<WordCheck>& checks, const std::string& lines) {
    std::vector<at::Tensor> parts = {
        text_line("Do the words matter? Attention of the trained model for a phrase, as the prompt "
                  "changes",
                  0.62),
        text_line(lines + "\n" + heat_legend() +
                      "\nAUC: cells of the phrase's own instance against the rest. Own vs other: "
                      "against the cells of the "
                      "other instance alone.\nBoth: 0.5 is chance, 1 is perfect. Own vs other near "
                      "0.5 means that attention "
                      "finds the two instances and does not tell them apart by their words.",
                  0.45)};
    for (std::size_t i = 0; i < clips.size(); ++i) {
        parts.push_back(clip_grid(clips[i], checks[i]));
    }
    return below(parts);
}

}  // namespace matrix::cli::pictures
