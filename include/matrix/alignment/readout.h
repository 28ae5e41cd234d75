#pragma once

#include "matrix/nn/token_layout.h"

#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

// What an attention layer says about entities, without ever building its map.
//
// Letters: B batch, H heads, S rows of the joint sequence, d head width, L text rows, F x gh x gw
// video cells, E entities. X[i, j] = q_i . k_j / sqrt(d), or its softmax over all keys.

namespace matrix::alignment {

struct ReadoutOptions {
    /// Which rows and columns of attention (paper section 4).
    enum class Direction {
        kV2t,  ///< mean over heads and an entity's text keys of X[video query, text key]
        kT2v,  ///< mean over heads and an entity's text queries of X[text query, video key]
        kV2v,  ///< mean over heads and an entity's first-frame queries of X[query, video key]
    };
    enum class Value {
        kLogits,
        kProbabilities,
        kLogProbabilities,  ///< log of the mean probability, formed by log-sum-exp; -inf for an
                            ///< empty set
    };
    /// v2t logits only: what is subtracted from an entity's mean key, head by head.
    enum class Center { kNone, kText, kAll };

    Direction direction = Direction::kV2t;
    Value value = Value::kLogits;
    Center center = Center::kNone;
};

/// The config's words; UsageError for others.
[[nodiscard]] ReadoutOptions::Direction parse_direction(std::string_view word);
[[nodiscard]] ReadoutOptions::Center parse_center(std::string_view word);

/// One readout for the entities of one batch: which tokens or cells belong to whom is fixed at
/// construction and lives on the device, so that reading waits for nothing. Immutable; copies share
/// their tensors.
class AttentionReadout {
public:
    /// `mask`, nonzero where chosen: [B, E, L] for kV2t and kT2v, [B, E, gh, gw] (cells of the
    /// first frame) for kV2v. Probabilities need the chosen rows as lists: a mask on a GPU is then
    /// copied to the host.
    AttentionReadout(ReadoutOptions options, const at::Tensor& mask, at::Device device);

    /// The maps [B, E, F, gh, gw], float32 (float64 for float64 inputs), of `query` and `key` [B,
    /// H, S, d] after norm and rotary embedding. An empty set gives zeros (-inf for logs) and no
    /// gradient. Differentiable in query and key, for
    /// probabilities through the softmax's denominator too. `log_sum_exp` [B, H, S], the natural
    /// log of sum_j exp(q_i . k_j / sqrt(d)), is data; where it is undefined, probabilities form it
    /// in chunks. Logits cost one product of [rows, H d] with [H d, E]; probabilities form only the
    /// wanted rows or columns, a bounded number of elements at a time, and the v2t backward runs
    /// fused attention once more for the denominator.
    [[nodiscard]] at::Tensor read(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& log_sum_exp,
                                  const nn::TokenLayout& layout) const;

    [[nodiscard]] std::int64_t num_entities() const { return weights_.size(1); }

private:
    // Both give [B, E, F * gh * gw].
    [[nodiscard]] at::Tensor read_logits(const at::Tensor& query, const at::Tensor& key,
                                         const nn::TokenLayout& layout) const;
    [[nodiscard]] at::Tensor read_probabilities(const at::Tensor& query, const at::Tensor& key,
                                                const at::Tensor& log_sum_exp,
                                                const nn::TokenLayout& layout) const;
    // First row of the range in which the chosen positions count.
    [[nodiscard]] std::int64_t source_begin(const nn::TokenLayout& layout) const;

    ReadoutOptions options_;
    at::Tensor weights_;                 // [B, E, n] float64: 1 / (chosen), 0 elsewhere
    std::vector<at::Tensor> positions_;  // B * E lists of chosen positions, for probabilities
};

}  // namespace matrix::alignment
