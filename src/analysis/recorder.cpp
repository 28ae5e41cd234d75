#include "matrix/analysis/recorder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace matrix::analysis {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
// Elements of attention formed at a time: 32 MiB in float32.
constexpr std::int64_t kChunkElements = 8 << 20;

/// One row an entity, each the mean over its set, then the sum over everything: [E + 1, n].
at::Tensor weights_of(std::vector<at::Tensor> sets) {
    for (at::Tensor& set : sets) {
        const auto members = static_cast<double>(set.sum().item<std::int64_t>());
        set = set.to(at::kDouble) / std::max(members, 1.0);
    }
    sets.push_back(at::ones_like(sets.front()));
    return at::stack(sets);
}

at::ScalarType compute_dtype(const at::Tensor& t) {
    return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/// P of `rows` queries from `begin` on over `columns` keys from `key_begin` on, a head and a few
/// rows at a time: body(row, count, P [count, columns]).
template <typename Body>
void for_each_chunk(const nn::TapInput& input, std::int64_t begin, std::int64_t rows,
                    std::int64_t key_begin, std::int64_t columns, const Body& body) {
    const at::ScalarType dtype = compute_dtype(input.query);
    const double scale = 1.0 / std::sqrt(static_cast<double>(input.query.size(3)));
    const std::int64_t step = std::max<std::int64_t>(1, kChunkElements / columns);
    for (std::int64_t head = 0; head < input.query.size(1); ++head) {
        const at::Tensor keys =
            input.key[0][head].narrow(0, key_begin, columns).to(dtype).mul(scale).t();
        for (std::int64_t row = 0; row < rows; row += step) {
            const std::int64_t count = std::min(step, rows - row);
            const at::Tensor query = input.query[0][head].narrow(0, begin + row, count).to(dtype);
            const at::Tensor lse =
                input.log_sum_exp[0][head].narrow(0, begin + row, count).to(dtype);
            body(row, count, at::mm(query, keys).sub_(lse.unsqueeze(1)).exp_());
        }
    }
}

/// [E + 1, F gh gw]
at::Tensor words_read_by_cells(const nn::TapInput& input, const at::Tensor& text_weights) {
    const nn::TokenLayout& layout = input.layout;
    const at::Tensor weights = text_weights.to(compute_dtype(input.query));
    // Mean over heads first: the words are then summed once.
    const at::Tensor probabilities =
        at::zeros({layout.video_tokens(), layout.text_tokens}, weights.options());
    for_each_chunk(input, layout.video_begin(), layout.video_tokens(), layout.text_begin(),
                   layout.text_tokens,
                   [&](std::int64_t row, std::int64_t count, const at::Tensor& p) {
                       probabilities.narrow(0, row, count).add_(p);
                   });
    return at::mm(weights, probabilities.t()).div_(static_cast<double>(input.query.size(1)));
}

/// [E + 1, F gh gw]
at::Tensor cells_read_by_first_frame(const nn::TapInput& input, const at::Tensor& first_weights) {
    const nn::TokenLayout& layout = input.layout;
    const at::Tensor weights = first_weights.to(compute_dtype(input.query));
    at::Tensor maps = at::zeros({weights.size(0), layout.video_tokens()}, weights.options());
    for_each_chunk(input, layout.video_begin(), layout.frame_tokens(), layout.video_begin(),
                   layout.video_tokens(),
                   [&](std::int64_t row, std::int64_t count, const at::Tensor& p) {
                       maps.addmm_(weights.narrow(1, row, count), p);
                   });
    return maps.div_(static_cast<double>(input.query.size(1)));
}

/// [8]: `own` and `other` maps over `mask` and its complement, all of one shape.
at::Tensor scores(const at::Tensor& own, const at::Tensor& other, const at::Tensor& mask) {
    std::array<double, kMetricNames.size()> values{};
    const auto inside = static_cast<double>(mask.sum().item<std::int64_t>());
    const double outside = static_cast<double>(mask.numel()) - inside;
    const auto put = [&](const at::Tensor& map, Metric in, Metric out) {
        values[in] = map.masked_select(mask).sum().item<double>();
        values[out] = map.masked_select(mask.logical_not()).sum().item<double>();
        // The means stand four places behind their sums; the mean over no cell is 0 / 0.
        values[in + kTpMean] = values[in] / inside;
        values[out + kTpMean] = values[out] / outside;
    };
    put(own, kTpSum, kFnSum);
    put(other, kFpSum, kTnSum);
    return at::tensor(at::ArrayRef<double>(values), at::kDouble);
}

/// The mean over a set's complement, from the mean over the set and the sum over all.
at::Tensor mean_of_others(const at::Tensor& own, const at::Tensor& sum, std::int64_t members,
                          std::int64_t all) {
    return (sum - own * static_cast<double>(members)) / static_cast<double>(all - members);
}

}  // namespace

AttentionRecorder::AttentionRecorder(const std::vector<Entity>& entities) : entities_(entities) {
    TORCH_CHECK(!entities.empty(), "there is no entity to record");
    std::vector<at::Tensor> words, cells;
    for (const Entity& entity : entities) {
        words.push_back(entity.tokens);
        cells.push_back(entity.cells[0].flatten());
    }
    text_weights_ = weights_of(std::move(words));
    first_weights_ = weights_of(std::move(cells));
}

nn::Tap AttentionRecorder::tap(at::Device device) const {
    return [text = text_weights_.to(device),
            first = first_weights_.to(device)](const nn::TapInput& input) {
        const nn::TokenLayout& layout = input.layout;
        TORCH_CHECK(layout.attention == nn::TokenLayout::Attention::kJoint,
                    "the recorder reads joint attention");
        TORCH_CHECK(input.query.size(0) == 1, "the recorder reads a batch of one, got ",
                    input.query.size(0));
        TORCH_CHECK(text.size(1) == layout.text_tokens && first.size(1) == layout.frame_tokens(),
                    "entities of ", text.size(1), " text rows and ", first.size(1),
                    " cells, attention of ", layout.text_tokens, " and ", layout.frame_tokens());
        return at::cat({words_read_by_cells(input, text), cells_read_by_first_frame(input, first)})
            .unflatten(1, {layout.frames, layout.grid_height, layout.grid_width});
    };
}

LayerReading AttentionRecorder::read(const at::Tensor& tap_output) const {
    const at::Tensor maps = tap_output.detach().to(at::kCPU, at::kDouble);
    const auto count = static_cast<std::int64_t>(entities_.size());
    TORCH_CHECK(maps.size(0) == 2 * (count + 1), "a recorder's tap of ", count, " entities gave ",
                maps.size(0), " maps");
    const std::int64_t frames = maps.size(1);
    const auto metrics = static_cast<std::int64_t>(kMetricNames.size());
    LayerReading reading;
    reading.v2t = maps.narrow(0, 0, count);
    reading.v2v = maps.narrow(0, count + 1, count);
    reading.v2t_scores = at::full({count, metrics}, kUndefined, at::kDouble);
    reading.v2v_scores = at::full({count, 3, metrics}, kUndefined, at::kDouble);
    const at::Tensor all_words = maps[count], all_cells = maps[2 * count + 1];
    for (std::int64_t e = 0; e < count; ++e) {
        const Entity& entity = entities_[static_cast<std::size_t>(e)];
        if (entity.has_tokens()) {
            const at::Tensor other =
                mean_of_others(reading.v2t[e], all_words, entity.tokens.sum().item<std::int64_t>(),
                               entity.tokens.numel());
            reading.v2t_scores[e].copy_(scores(reading.v2t[e], other, entity.cells));
        }
        if (entity.has_first_cells()) {
            const at::Tensor first = entity.cells[0];
            const at::Tensor other = mean_of_others(
                reading.v2v[e], all_cells, first.sum().item<std::int64_t>(), first.numel());
            const auto over = [&](std::int64_t range, std::int64_t begin, std::int64_t length) {
                reading.v2v_scores[e][range].copy_(scores(reading.v2v[e].narrow(0, begin, length),
                                                          other.narrow(0, begin, length),
                                                          entity.cells.narrow(0, begin, length)));
            };
            over(0, 0, frames);
            over(1, 0, 1);
            over(2, 1, frames - 1);
        }
    }
    return reading;
}

}  // namespace matrix::analysis
