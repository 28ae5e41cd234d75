#include "matrix/pipeline/perturbation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "matrix/core/shape.h"
#include "matrix/kernels/attention.h"

// Letters: B batch, H heads, S joint rows, L text rows, F latent frames of n tokens, N = F n video
// rows, T text tokens of which entries are removed, d head_dim.

namespace matrix::pipeline {
namespace {

// Elements of one chunk of entries: 64 MiB in float32, with a few temporaries of that size.
constexpr std::int64_t kChunkElements = 16 << 20;

double scale_of(const at::Tensor& query) {
    return 1.0 / std::sqrt(static_cast<double>(query.size(3)));
}

/// `text` and `video` rows as one sequence [B, H, S, d].
at::Tensor joint(const at::Tensor& text, const at::Tensor& video) {
    return at::cat({text, video}, 2);
}

/// The removed entries' contribution to the output, [B, H, N, d] in log_sum_exp's dtype.
at::Tensor grounding_contribution(const nn::AttentionEditInput& a, const at::Tensor& entries,
                                  const at::Tensor& tokens) {
    const std::int64_t first = a.layout.video_begin(), num_video = a.layout.video_tokens();
    const at::ScalarType dtype = a.log_sum_exp.scalar_type();
    const std::int64_t step = std::clamp<std::int64_t>(
        kChunkElements / (a.query.size(0) * num_video * tokens.numel()), 1, a.query.size(1));
    std::vector<at::Tensor> parts;
    for (std::int64_t head = 0; head < a.query.size(1); head += step) {
        const std::int64_t heads = std::min(step, a.query.size(1) - head);
        const auto video = [&](const at::Tensor& t) {
            return t.narrow(1, head, heads).narrow(2, first, num_video);
        };
        const auto text = [&](const at::Tensor& t) {
            return t.narrow(1, head, heads)
                .index_select(2, tokens + a.layout.text_begin())
                .to(dtype);  // [B, h, T, d]
        };
        const at::Tensor probabilities =
            at::matmul(video(a.query).to(dtype) * scale_of(a.query), text(a.key).mT())
                .sub_(video(a.log_sum_exp).unsqueeze(-1))
                .exp_()
                .mul_(entries);  // [B, h, N, T]
        parts.push_back(at::matmul(probabilities, text(a.value)));
    }
    return at::cat(parts, 1);
}

}  // namespace

at::Tensor without_grounding(const nn::AttentionEditInput& attention, const at::Tensor& grounding) {
    const nn::TokenLayout& layout = attention.layout;
    TORCH_CHECK(grounding.dim() == 2 && grounding.scalar_type() == at::kBool &&
                    (grounding.size(0) == 1 || grounding.size(0) == layout.video_tokens()) &&
                    grounding.size(1) == layout.text_tokens,
                "grounding: [", layout.video_tokens(), " or 1, ", layout.text_tokens,
                "] bool wanted, not ", shape_text(grounding.sizes()));
    const at::Tensor tokens = grounding.any(0).nonzero().squeeze(1);  // [T]
    if (tokens.numel() == 0) {
        return attention.output;
    }
    const at::Tensor removed =
        grounding_contribution(attention, grounding.index_select(1, tokens), tokens);
    const std::int64_t first = layout.video_begin();
    const at::Tensor& output = attention.output;
    const at::Tensor video = output.narrow(2, first, layout.video_tokens());
    return joint(output.narrow(2, 0, first),
                 (video.to(removed.scalar_type()) - removed).to(output.scalar_type()));
}

at::Tensor without_other_frames(const nn::AttentionEditInput& attention) {
    const nn::TokenLayout& layout = attention.layout;
    TORCH_CHECK(layout.attention == nn::TokenLayout::Attention::kJoint,
                "frames are told apart in joint attention alone");
    const std::int64_t batch = attention.query.size(0), heads = attention.query.size(1);
    const auto text = [&](const at::Tensor& t) { return t.narrow(2, 0, layout.video_begin()); };
    const auto by_frame = [&](const at::Tensor& t) {
        return t.narrow(2, layout.video_begin(), layout.video_tokens())
            .unflatten(2, {layout.frames, layout.frame_tokens()})
            .transpose(1, 2)
            .flatten(0, 1);  // [B F, H, n, ...]
    };
    const auto with_text = [&](const at::Tensor& t) {
        return joint(text(t).repeat_interleave(layout.frames, 0), by_frame(t));
    };  // [B F, H, L + n, d]
    const kernels::AttentionResult kept =
        kernels::attention(by_frame(attention.query), with_text(attention.key),
                           with_text(attention.value), scale_of(attention.query));
    const at::Tensor share = (kept.log_sum_exp - by_frame(attention.log_sum_exp)).exp_();
    const at::Tensor video = (kept.output * share.unsqueeze(-1)).to(kept.output.scalar_type());
    return joint(text(attention.output),
                 video.unflatten(0, {batch, layout.frames})
                     .transpose(1, 2)
                     .reshape({batch, heads, layout.video_tokens(), video.size(3)}));
}

std::map<std::int64_t, nn::AttentionEdit> Perturbation::edits(std::int64_t begin) const {
    const auto in = [](const std::vector<std::int64_t>& blocks, std::int64_t block) {
        return std::ranges::find(blocks, block) != blocks.end();
    };
    std::map<std::int64_t, nn::AttentionEdit> edits;
    for (const auto* blocks : {&cmg_blocks, &cag_blocks}) {
        for (const std::int64_t block : *blocks) {
            edits[block] = [begin, cmg = in(cmg_blocks, block), cag = in(cag_blocks, block),
                            entries = grounding](const nn::AttentionEditInput& all) {
                const auto part = [&](const at::Tensor& t) {
                    return t.narrow(0, begin, t.size(0) - begin);
                };
                const at::Tensor q = part(all.query), k = part(all.key), v = part(all.value),
                                 lse = part(all.log_sum_exp);
                at::Tensor output = part(all.output);
                if (cag) {
                    output = without_other_frames({q, k, v, lse, output, all.layout});
                }
                if (cmg) {
                    output = without_grounding({q, k, v, lse, output, all.layout}, entries);
                }
                return begin == 0 ? output : at::cat({all.output.narrow(0, 0, begin), output});
            };
        }
    }
    return edits;
}

}  // namespace matrix::pipeline
