#pragma once

#include "matrix/analysis/entities.h"
#include "matrix/nn/tap.h"

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

// E entities, L text rows, F x gh x gw video cells.

namespace matrix::analysis {

/// A map over a mask and its complement: `tp` and `fn` of the entity's map, `fp` and `tn` of the
/// map of everything else (the other text rows; the first-frame cells outside the mask), each
/// summed over the mask (tp, fp) or its complement (fn, tn). The mean over no cell is NaN.
/// The names are the authors' recorder's; `tp_sum` is the Attention Alignment Score (paper 4.4).
enum Metric : std::size_t {
    kTpSum,
    kFnSum,
    kFpSum,
    kTnSum,
    kTpMean,
    kFnMean,
    kFpMean,
    kTnMean,
};
inline constexpr std::array<std::string_view, 8> kMetricNames = {
    "tp_sum", "fn_sum", "fp_sum", "tn_sum", "tp_mean", "fn_mean", "fp_mean", "tn_mean"};

/// Which frames' cells a propagation score is over, as keys and in the mask: all, the first (where
/// the queries stand), all but the first.
inline constexpr std::array<std::string_view, 3> kRangeNames = {"whole", "first", "cross"};

/// What one layer's attention says of the entities.
struct LayerReading {
    at::Tensor v2t;         ///< [E, F, gh, gw] float64: mean probability from a cell to the words
    at::Tensor v2v;         ///< [E, F, gh, gw] float64: mean from the first-frame cells to a cell
    at::Tensor v2t_scores;  ///< [E, 8] float64; NaN for an entity without words
    at::Tensor v2v_scores;  ///< [E, 3, 8] float64; NaN for an entity without first-frame cells
};

/// Reads the probabilities of joint attention, post-softmax over all keys, mean over heads, without
/// ever holding a heads x queries x keys map: for v2t the text columns of the video rows, for v2v
/// the first frame's rows.
class AttentionRecorder {
public:
    explicit AttentionRecorder(const std::vector<Entity>& entities);

    /// For a batch of one: [2 (E + 1), F, gh, gw] float32 (float64 for float64 attention), v2t of
    /// the entities and the sum over all text rows, then v2v of the entities and the sum over all
    /// first-frame cells. `device` is where the attention lives.
    [[nodiscard]] nn::Tap tap(at::Device device) const;

    /// Of one layer's tap output.
    [[nodiscard]] LayerReading read(const at::Tensor& tap_output) const;

private:
    std::vector<Entity> entities_;
    at::Tensor text_weights_;   // [E + 1, L] float64: 1 / |T_e|, zeros for none, then ones
    at::Tensor first_weights_;  // [E + 1, gh gw] float64, the same of the first frame's cells
};

}  // namespace matrix::analysis
