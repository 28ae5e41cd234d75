#pragma once

#include "matrix/analysis/record.h"
#include "matrix/analysis/statistics.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace matrix::analysis {

/// What is ranked apart from the rest (paper section 4.5): nouns or verbs, grounding (v2t) or
/// propagation (v2v).
struct Variant {
    std::string_view name;   ///< in file names: "noun_v2t"
    std::string_view title;  ///< for people
    bool verb;
    bool v2v;
};
inline constexpr std::array<Variant, 4> kVariants = {{
    {"noun_v2t", "Noun grounding (v2t)", false, false},
    {"verb_v2t", "Verb grounding (v2t)", true, false},
    {"noun_v2v", "Noun propagation (v2v)", false, true},
    {"verb_v2v", "Verb propagation (v2v)", true, true},
}};

struct VariantSummary {
    LayerScores scores;  ///< step-averaged; a video's is the mean over its nouns, or its verbs
    std::vector<std::vector<double>> heat;  ///< [layers][steps], mean over videos and entities
    std::vector<LayerVariance> variances;
    std::vector<LayerInfluence> influence;
    std::vector<LayerDominance> dominance;
    LayerChoice choice;
};

/// An analysis as a whole.
struct Summary {
    std::array<VariantSummary, kVariants.size()> variants;  ///< as kVariants
    std::vector<std::int64_t> timesteps;                    ///< of the steps
    std::int64_t num_layers = 0;
    std::vector<std::int64_t> sga_blocks;  ///< the chosen layers of both groundings, ascending
    std::vector<std::int64_t> spa_blocks;  ///< of noun propagation: SPA has no verb
};

struct SummaryOptions {
    std::vector<Outcome> outcomes;
    std::size_t layers_per_variant = 1;
    double dummy_variance = 1e-12;  ///< of the mean's square; grounding alone is filtered
};

/// RunError where the records differ in their layers or steps, or there are none.
[[nodiscard]] Summary summarise(const std::vector<VideoRecord>& records,
                                const SummaryOptions& options);

}  // namespace matrix::analysis
