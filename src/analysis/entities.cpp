#include "matrix/analysis/entities.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <utility>

#include "matrix/alignment/scores.h"

namespace matrix::analysis {
namespace {

constexpr std::int64_t kSubject = 0, kObject = 1, kVerb = 2;

/// Instances by ID and tokens; a second wording of one ID gets a letter.
class Nouns {
public:
    explicit Nouns(std::vector<Entity>& entities) : entities_(entities) {}

    void add(const data_source::Phrase& phrase, const at::Tensor& tokens, const at::Tensor& track) {
        std::vector<std::size_t>& same = by_id_[phrase.id];
        const bool known = std::ranges::any_of(
            same, [&](std::size_t i) { return at::equal(entities_[i].tokens, tokens); });
        if (known) {
            return;
        }
        std::string name = "id" + std::to_string(phrase.id);
        if (!same.empty()) {
            name += static_cast<char>('a' + same.size());
        }
        same.push_back(entities_.size());
        entities_.push_back(
            {std::move(name), phrase.text, false, tokens, alignment::latent_mask(track), track});
    }

private:
    std::vector<Entity>& entities_;
    std::map<std::int64_t, std::vector<std::size_t>> by_id_;
};

}  // namespace

bool Entity::has_tokens() const {
    return tokens.any().item<bool>();
}

bool Entity::has_first_cells() const {
    return cells[0].any().item<bool>();
}

std::vector<Entity> entities_of(const std::vector<data_source::Interaction>& interactions,
                                const at::Tensor& token_mask, const at::Tensor& masks) {
    TORCH_CHECK(token_mask.size(0) >= static_cast<std::int64_t>(interactions.size()) &&
                    masks.size(0) >= static_cast<std::int64_t>(interactions.size()),
                "token masks of ", interactions.size(), " interactions are ", token_mask.sizes(),
                ", mask tracks ", masks.sizes());
    std::vector<Entity> entities;
    Nouns nouns(entities);
    std::vector<Entity> verbs;
    for (std::size_t i = 0; i < interactions.size(); ++i) {
        const data_source::Interaction& said = interactions[i];
        const at::Tensor tokens = token_mask[static_cast<std::int64_t>(i)].ne(0).cpu();
        const at::Tensor tracks = masks[static_cast<std::int64_t>(i)].cpu();
        nouns.add(said.subject, tokens[kSubject], tracks[kSubject]);
        if (said.object) {
            nouns.add(*said.object, tokens[kObject], tracks[kObject]);
        }
        const at::Tensor both = tracks[kSubject].bitwise_or(tracks[kObject]);
        verbs.push_back({"verb" + std::to_string(i + 1), said.verb.text, true, tokens[kVerb],
                         alignment::latent_mask(both), both});
    }
    std::ranges::move(verbs, std::back_inserter(entities));
    return entities;
}

}  // namespace matrix::analysis
