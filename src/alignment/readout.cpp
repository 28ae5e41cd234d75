#include "matrix/alignment/readout.h"

#include "logit_readout.h"
#include "matrix/core/error.h"
#include "matrix/core/transfer.h"
#include "probability_readout.h"

#include <ATen/ATen.h>

#include <cmath>

namespace matrix::alignment {
namespace {

using Direction = ReadoutOptions::Direction;
using Value = ReadoutOptions::Value;
using Center = ReadoutOptions::Center;

/// Where a contiguous [n] bool tensor on the host is set: int64.
at::Tensor set_positions(const at::Tensor& chosen) {
    std::vector<std::int64_t> positions;
    const bool* is_set = chosen.const_data_ptr<bool>();
    for (std::int64_t i = 0; i < chosen.numel(); ++i) {
        if (is_set[i]) {
            positions.push_back(i);
        }
    }
    return at::tensor(positions, at::kLong);
}

// Entities without a chosen position keep a row of zeros, so centring leaves them alone too.
at::Tensor centred(const at::Tensor& weights, Center center, std::int64_t num_keys) {
    if (center == Center::kNone) {
        return weights;
    }
    const std::int64_t rows = center == Center::kText ? weights.size(2) : num_keys;
    const at::Tensor nonempty = weights.sum(2, /*keepdim=*/true).gt(0).to(weights.scalar_type());
    return at::constant_pad_nd(weights, {0, rows - weights.size(2)}) -
           nonempty / static_cast<double>(rows);  // [B, E, rows]
}

}  // namespace

Direction parse_direction(std::string_view word) {
    if (word == "v2t") {
        return Direction::kV2t;
    }
    if (word == "t2v") {
        return Direction::kT2v;
    }
    throw UsageError("alignment.sga.rows: \"" + std::string(word) + "\" is none of v2t, t2v");
}

Center parse_center(std::string_view word) {
    if (word == "none") {
        return Center::kNone;
    }
    if (word == "text") {
        return Center::kText;
    }
    if (word == "all") {
        return Center::kAll;
    }
    throw UsageError("alignment.center: \"" + std::string(word) + "\" is none of none, text, all");
}

AttentionReadout::AttentionReadout(ReadoutOptions options, const at::Tensor& mask,
                                   at::Device device)
    : options_(options) {
    TORCH_CHECK(mask.dim() == (options.direction == Direction::kV2v ? 4 : 3),
                "readout mask: want [B, E, L], or [B, E, gh, gw] for v2v, got ", mask.sizes());
    TORCH_CHECK(options.center == Center::kNone ||
                    (options.direction == Direction::kV2t && options.value == Value::kLogits),
                "only v2t logits can be centred");
    const at::Tensor chosen = mask.flatten(2).ne(0);  // [B, E, n]
    const at::Tensor count = chosen.sum(2, /*keepdim=*/true).clamp_min(1);
    weights_ = upload(chosen.to(at::kDouble).div_(count), device);
    if (options.value != Value::kLogits) {
        const at::Tensor rows = on_host(chosen).flatten(0, 1).contiguous();  // [B * E, n]
        for (std::int64_t i = 0; i < rows.size(0); ++i) {
            positions_.push_back(upload(set_positions(rows[i]), device));
        }
    }
}

at::Tensor AttentionReadout::read(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& log_sum_exp,
                                  const nn::TokenLayout& layout) const {
    TORCH_CHECK(query.dim() == 4 && query.size(2) == layout.num_queries() && key.dim() == 4 &&
                    key.size(2) == layout.num_keys() && query.size(0) == weights_.size(0),
                "readout: query ", query.sizes(), " and key ", key.sizes(), " do not fit ",
                layout.num_queries(), " queries, ", layout.num_keys(), " keys and a mask of batch ",
                weights_.size(0));
    const bool v2v = options_.direction == Direction::kV2v;
    TORCH_CHECK(weights_.size(2) == (v2v ? layout.frame_tokens() : layout.text_tokens),
                "readout: the mask has ", weights_.size(2), " positions for ", layout.text_tokens,
                " text rows and ", layout.frame_tokens(), " cells a frame");
    TORCH_CHECK(options_.direction == Direction::kV2t ||
                    layout.attention == nn::TokenLayout::Attention::kJoint,
                "t2v and v2v want video keys: joint attention");
    if (query.size(0) == 0) {
        return query.new_zeros(
            {0, num_entities(), layout.frames, layout.grid_height, layout.grid_width});
    }
    const at::Tensor map = options_.value == Value::kLogits
                               ? read_logits(query, key, layout)
                               : read_probabilities(query, key, log_sum_exp, layout);
    return map.view(
        {map.size(0), map.size(1), layout.frames, layout.grid_height, layout.grid_width});
}

at::Tensor AttentionReadout::read_logits(const at::Tensor& query, const at::Tensor& key,
                                         const nn::TokenLayout& layout) const {
    const double factor =
        1.0 / (std::sqrt(static_cast<double>(query.size(3))) * static_cast<double>(query.size(1)));
    if (options_.direction == Direction::kV2t) {
        return pooled_product(key, query, centred(weights_, options_.center, layout.num_keys()),
                              layout.text_begin(), layout.video_begin(), layout.video_tokens(),
                              factor);
    }
    return pooled_product(query, key, weights_, source_begin(layout), layout.video_begin(),
                          layout.video_tokens(), factor);
}

at::Tensor AttentionReadout::read_probabilities(const at::Tensor& query, const at::Tensor& key,
                                                const at::Tensor& log_sum_exp,
                                                const nn::TokenLayout& layout) const {
    const double scale = 1.0 / std::sqrt(static_cast<double>(query.size(3)));
    const RowRange video{layout.video_begin(), layout.video_tokens()};
    const at::Tensor log_mean =
        options_.direction == Direction::kV2t
            ? log_mean_columns(query, key, log_sum_exp, positions_, layout.text_begin(), video,
                               scale)
            : log_mean_rows(query, key, positions_, source_begin(layout), video, scale);
    return options_.value == Value::kLogProbabilities ? log_mean : log_mean.exp();
}

std::int64_t AttentionReadout::source_begin(const nn::TokenLayout& layout) const {
    return options_.direction == Direction::kV2v ? layout.video_begin() : layout.text_begin();
}

}  // namespace matrix::alignment
