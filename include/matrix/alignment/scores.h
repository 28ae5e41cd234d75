#pragma once

#include "matrix/alignment/config.h"
#include "matrix/alignment/objective.h"
#include "matrix/nn/tap.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

// Has attention moved? The losses cannot tell, since a head can lower them alone; these scores need
// no head.

namespace matrix::alignment {

/// A mean over the values that are defined; NaNs are left out.
struct MeanScore {
    double sum = 0;
    std::int64_t count = 0;

    void add(double value);
    void add(const MeanScore& other);
    /// NaN where nothing was added.
    [[nodiscard]] double value() const;
};

/// Over the counted entities: subject, object and verb for v2t, subject and object for v2v. A cell
/// is an instance's when at least half of its 16 x 16 pixels, over its frames, are; v2v leaves
/// frame 0 out of auc, bind and enrich, because the queries stand there.
struct Scores {
    MeanScore auc;     ///< ROC-AUC of the raw map, own cells against the rest; 0.5 = chance
    MeanScore bind;    ///< subject and object: own cells against the other's, without those of both
                       ///< or neither
    MeanScore enrich;  ///< share of attention probability on own cells over their share of the
                       ///< area; 1 = chance
    /// Attention Alignment Score (paper section 4.4): sum of the probability map over the mask on
    /// the latent grid (top-left pixel of a cell, OR over its frames), all frames.
    MeanScore aas;

    void add(const Scores& other);
};

struct BlockScores {
    Scores v2t;  ///< nothing counted where SGA is off
    Scores v2v;  ///< nothing counted where SPA is off
};

/// Scores one batch, block by block, from one forward. The raw map is that of the logits, with the
/// config's centring for v2t. Attention is read in both directions whose terms are on, whatever
/// `sga.rows` trains.
class AttentionScorer {
public:
    /// Reads the masks once, on the host. `device` is where the attention lives.
    AttentionScorer(const AlignmentConfig& config, const Supervision& supervision,
                    at::Device device);

    /// For any block: [B, 3 N + 3 N + 2 N + 2 N, F, gh, gw], the v2t logits, v2t probabilities, v2v
    /// logits and v2v probabilities of all interactions; those of a term that is off are left out.
    [[nodiscard]] nn::Tap tap() const;

    /// The scores of one block's tap output.
    [[nodiscard]] BlockScores score(const at::Tensor& tap_output) const;

private:
    struct Cells {
        at::Tensor covered;  // [F, gh, gw] bool, at least half
        at::Tensor touched;  // [F, gh, gw] bool, the AAS mask
    };
    [[nodiscard]] Scores score_term(const at::Tensor& raw, const at::Tensor& probability,
                                    const std::vector<bool>& counted, std::int64_t entities,
                                    std::int64_t first_frame) const;

    AlignmentConfig config_;
    Supervision supervision_;
    at::Device device_;
    std::vector<Cells> cells_;               // b, n, then subject, object, verb
    std::vector<bool> grounding_counted_;    // the same order
    std::vector<bool> propagation_counted_;  // b, n, then subject, object
};

/// Exact area under the ROC curve of `values` (1-D), ties counted half; NaN unless both classes
/// occur, and where a value is NaN.
[[nodiscard]] double roc_auc(const at::Tensor& values, const at::Tensor& positive);

/// Share of a cell's pixels and frames that are foreground: [T, 16 gh, 16 gw] -> [F, gh, gw]
/// float32.
[[nodiscard]] at::Tensor cell_coverage(const at::Tensor& mask_track);

/// The mask on the latent grid as the analysis takes it: top-left pixel of a cell, OR over its
/// frames. -> bool
[[nodiscard]] at::Tensor latent_mask(const at::Tensor& mask_track);

}  // namespace matrix::alignment
