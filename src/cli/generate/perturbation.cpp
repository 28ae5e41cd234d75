#include "cli/generate/perturbation.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>

#include "matrix/core/error.h"
#include "matrix/data_source/clip.h"
#include "matrix/data_source/interactions.h"
#include "matrix/media/geometry.h"
#include "matrix/media/image.h"
#include "matrix/text/phrases.h"

// Letters: T frames, F token frames, gh x gw token grid, N = F gh gw video tokens, L text tokens.

namespace matrix::cli::generate {
namespace {

namespace fs = std::filesystem;

using data_source::Interaction;
using Blocks = std::vector<std::int64_t>;

// CogVideoX-5B-I2V: paper, appendix E.
constexpr std::int64_t kPublishedLayers = 42;
const Blocks kCmgBlocks = {7, 11};
const Blocks kCagBlocks = {12};

bool is_on(const VideoSettings& settings, const std::string& guidance) {
    return std::ranges::find(settings.guidance, guidance) != settings.guidance.end();
}

std::string listed(const Blocks& blocks) {
    std::string text;
    for (const std::int64_t block : blocks) {
        text += (text.empty() ? "" : ", ") + std::to_string(block);
    }
    return text;
}

void resolve_blocks(const std::string& guidance, bool on, const Blocks& published,
                    std::int64_t num_blocks, Blocks& blocks, std::vector<std::string>& faults) {
    const std::string name = guidance + "_blocks: ";
    if (!on && !blocks.empty()) {
        faults.push_back(name + "guidance " + guidance + " is not on");
    }
    if (on && blocks.empty() && num_blocks == kPublishedLayers) {
        blocks = published;
    }
    if (on && blocks.empty()) {
        faults.push_back(name + "is missing; the published choice (" + listed(published) +
                         ") is for models of " + std::to_string(kPublishedLayers) +
                         " blocks, and this one has " + std::to_string(num_blocks));
    }
    for (const std::int64_t block : blocks) {
        if (block >= num_blocks) {
            faults.push_back(name + "the model has no block " + std::to_string(block) +
                             ", only 0 to " + std::to_string(num_blocks - 1));
        }
    }
}

/// Words of the prompt, and the instances whose regions count for them.
struct Entity {
    data_source::Phrase phrase;
    std::vector<std::int64_t> ids;
    std::string where;  ///< "interactions[0].verb"
};

std::vector<Entity> entities_of(const std::vector<Interaction>& interactions) {
    std::vector<Entity> entities;
    for (std::size_t i = 0; i < interactions.size(); ++i) {
        const Interaction& interaction = interactions[i];
        const std::string where = "interactions[" + std::to_string(i) + "].";
        Entity verb{interaction.verb, {interaction.subject.id}, where + "verb"};
        entities.push_back({interaction.subject, verb.ids, where + "subject"});
        if (interaction.object) {
            entities.push_back({*interaction.object, {interaction.object->id}, where + "object"});
            verb.ids.push_back(interaction.object->id);
        }
        entities.push_back(verb);
    }
    return entities;
}

void resolve_interactions(VideoSettings& settings, std::vector<std::string>& faults) {
    const std::size_t before = faults.size();
    std::vector<Interaction> interactions;
    try {
        const nlohmann::json json = parse_json(*settings.interactions, "interactions");
        interactions = data_source::read_interactions(json, faults);
        settings.interactions = json.dump();
    } catch (const Error& error) {
        faults.insert(faults.end(), error.faults().begin(), error.faults().end());
    }
    if (faults.size() > before) {
        return;
    }
    if (interactions.empty()) {
        faults.emplace_back("interactions: is an empty list");
    }
    for (const Entity& entity : entities_of(interactions)) {
        try {
            (void)text::find_phrase(settings.prompt, entity.phrase.text, entity.phrase.start);
        } catch (const RunError& error) {
            faults.push_back(entity.where + ": " + error.what());
        }
    }
}

/// The masks of one ID as a video's rows see them, [F, gh, gw] bool: the top left pixel of every
/// cell, a latent frame's frames together.
class TrackReader {
public:
    TrackReader(const VideoSettings& settings, const pipeline::SizeRules& rules)
        : size_(size_of(settings)), latents_(pipeline::latent_size(size_, rules)), rules_(rules) {
        add_shape(size_.height_px, size_.width_px);
        if (settings.image) {
            const at::Tensor image = media::read_image(*settings.image);
            add_shape(image.size(0), image.size(1));
        }
    }

    [[nodiscard]] at::Tensor read(const data_source::IdFolder& folder) const {
        const auto num_masks = static_cast<std::int64_t>(folder.files.size());
        if (num_masks < size_.num_frames) {
            throw RunError(folder.path.string() + ": holds " + std::to_string(num_masks) +
                           " masks (.png), " + std::to_string(size_.num_frames) +
                           " are needed, one a frame");
        }
        std::vector<at::Tensor> cells;
        for (std::int64_t i = 0; i < size_.num_frames; ++i) {
            cells.push_back(
                read_cells(folder.path / folder.files[static_cast<std::size_t>(i)]).ne(0));
        }
        const at::Tensor frames = at::stack(cells);  // [T, gh, gw]
        const at::Tensor first = frames.narrow(0, 0, 1);
        std::vector<at::Tensor> latents(static_cast<std::size_t>(latents_.padding + 1), first);
        latents.push_back(together(frames.narrow(0, 1, size_.num_frames - 1),
                                   rules_.vae.temporal_compression_ratio));
        return together(at::cat(latents), rules_.transformer.patch_size_t.value_or(1));
    }

private:
    void add_shape(std::int64_t height_px, std::int64_t width_px) {
        media::VideoInfo shape;
        shape.height_px = height_px;
        shape.width_px = width_px;
        shapes_.push_back(shape);
    }

    /// [n, gh, gw] to [n / count, gh, gw].
    static at::Tensor together(const at::Tensor& frames, std::int64_t count) {
        return frames.view({frames.size(0) / count, count, frames.size(1), frames.size(2)}).any(1);
    }

    [[nodiscard]] at::Tensor read_cells(const fs::path& path) const {
        const at::Tensor mask = media::read_mask(path);
        const auto has_shape = [&](const media::VideoInfo& shape) {
            try {
                data_source::check_mask_size(path, mask.size(0), mask.size(1), shape);
                return true;
            } catch (const RunError&) {
                return false;
            }
        };
        if (std::ranges::none_of(shapes_, has_shape)) {
            data_source::check_mask_size(path, mask.size(0), mask.size(1), shapes_.back());
        }
        return media::query_cells(
            media::resize_mask(mask, media::fit(mask.size(0), mask.size(1), size_.height_px,
                                                size_.width_px, media::Resize::kStretch)),
            true);
    }

    pipeline::VideoSize size_;
    pipeline::LatentSize latents_;
    const pipeline::SizeRules& rules_;
    std::vector<media::VideoInfo> shapes_;  // of the video and of the picture that is brought to it
};

/// Video tokens of each ID that the interactions name, [N, 1] bool.
std::map<std::int64_t, at::Tensor> read_regions(const VideoSettings& settings,
                                                const std::vector<Interaction>& interactions,
                                                const pipeline::SizeRules& rules) {
    data_source::Row row;
    row.where = "interactions";
    row.mask_path = *settings.mask_tracks;
    row.interactions = interactions;
    const TrackReader tracks(settings, rules);
    std::map<std::int64_t, at::Tensor> regions;
    for (const data_source::IdFolder& folder : data_source::find_id_folders(row)) {
        const bool is_named = std::ranges::any_of(interactions, [&](const Interaction& i) {
            return i.subject.id == folder.id || (i.object && i.object->id == folder.id);
        });
        if (is_named) {
            regions[folder.id] = tracks.read(folder).view({-1, 1});
        }
    }
    return regions;
}

/// The entries that CMG removes, [N, L] bool, or [1, L] without tracks.
at::Tensor grounding_entries(const VideoSettings& settings, const pipeline::SizeRules& rules,
                             const text::T5Tokenizer& tokenizer) {
    std::vector<std::string> faults;
    const std::vector<Interaction> interactions =
        data_source::read_interactions(parse_json(*settings.interactions, "interactions"), faults);
    std::map<std::int64_t, at::Tensor> regions;
    if (settings.mask_tracks) {
        regions = read_regions(settings, interactions, rules);
    }
    const text::Encoding encoding = tokenizer.encode(settings.prompt);
    at::Tensor entries = at::zeros({1, text::kMaxTokens}, at::kBool);
    for (const Entity& entity : entities_of(interactions)) {
        const auto tokens = text::token_mask(
            encoding, settings.prompt,
            text::find_phrase(settings.prompt, entity.phrase.text, entity.phrase.start));
        if (tokens.cut_off) {
            throw RunError(entity.where + ": \"" + entity.phrase.text +
                           "\" is cut off by the limit of " + std::to_string(text::kMaxTokens) +
                           " tokens; shorten the prompt");
        }
        const at::Tensor chosen = tokens.mask.to(at::kBool).unsqueeze(0);  // [1, L]
        if (regions.empty()) {
            entries = entries.logical_or(chosen);
        }
        for (const std::int64_t id : regions.empty() ? Blocks() : entity.ids) {
            entries = entries.logical_or(chosen.logical_and(regions.at(id)));
        }
    }
    if (settings.mask_tracks && !entries.any().item<bool>()) {
        throw RunError(*settings.mask_tracks +
                       ": no mask of the interactions' IDs has a pixel where a token has its "
                       "corner, so guidance cmg would change nothing");
    }
    return entries;
}

}  // namespace

void resolve_perturbation(VideoSettings& settings, const pipeline::SizeRules& rules,
                          std::vector<std::string>& faults) {
    const bool cmg = is_on(settings, "cmg"), cag = is_on(settings, "cag");
    const std::int64_t num_blocks = rules.transformer.num_layers;
    resolve_blocks("cmg", cmg, kCmgBlocks, num_blocks, settings.cmg_blocks, faults);
    resolve_blocks("cag", cag, kCagBlocks, num_blocks, settings.cag_blocks, faults);
    if (settings.perturbation_scale != VideoSettings().perturbation_scale && !cmg && !cag) {
        faults.emplace_back("perturbation_scale: neither guidance cmg nor cag is on");
    }
    if (settings.mask_tracks && !cmg) {
        faults.emplace_back("mask_tracks: guidance cmg alone uses them, and it is not on");
    }
    if (settings.interactions && !cmg) {
        faults.emplace_back("interactions: guidance cmg alone uses them, and it is not on");
    } else if (settings.interactions) {
        resolve_interactions(settings, faults);
    } else if (cmg) {
        faults.emplace_back(
            "interactions: is missing; guidance cmg has to know which words of the prompt are "
            "subject, verb and object");
    }
}

pipeline::Perturbation load_perturbation(const VideoSettings& settings,
                                         const pipeline::SizeRules& rules, const fs::path& model) {
    pipeline::Perturbation perturbation;
    perturbation.scale = settings.perturbation_scale;
    perturbation.cmg_blocks = settings.cmg_blocks;
    perturbation.cag_blocks = settings.cag_blocks;
    if (!settings.cmg_blocks.empty()) {
        perturbation.grounding =
            grounding_entries(settings, rules, text::T5Tokenizer(model / "tokenizer"));
    }
    return perturbation;
}

}  // namespace matrix::cli::generate
