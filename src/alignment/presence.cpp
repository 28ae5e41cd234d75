#include "presence.h"

#include "matrix/core/shape.h"
#include "matrix/core/transfer.h"

#include <ATen/ATen.h>

// B batch, N interactions, E entities of a term.

namespace matrix::alignment {
namespace {

// `counted`, `real` bool on the CPU: [B, N, E], [B, N].
Presence collect(const at::Tensor& counted, const at::Tensor& real) {
    Presence p;
    const auto count = counted.accessor<bool, 3>();
    const auto is_real = real.accessor<bool, 2>();
    for (std::int64_t b = 0; b < counted.size(0); ++b) {
        p.counted.emplace_back();
        p.interactions.push_back(0);
        for (std::int64_t n = 0; n < counted.size(1); ++n) {
            std::vector<bool> entities;
            std::int64_t present = 0;
            for (std::int64_t e = 0; e < counted.size(2); ++e) {
                entities.push_back(count[b][n][e]);
                present += count[b][n][e] ? 1 : 0;
            }
            p.counted.back().push_back(std::move(entities));
            p.interactions.back() += present > 0 ? 1 : 0;
            p.num_counted += present;
            p.num_skipped += is_real[b][n] ? counted.size(2) - present : 0;
        }
    }
    return p;
}

// Whether anything is set along the trailing dimensions from `dim` on, on the CPU. amax is
// vectorised for uint8.
at::Tensor any_from(const at::Tensor& mask, std::int64_t dim) {
    const at::Tensor flat = mask.flatten(dim);
    return flat.numel() == 0 ? at::zeros(mask.sizes().slice(0, dim), at::kBool)
                             : on_host(flat.amax(dim).ne(0));
}

}  // namespace

BatchPresence find_presence(const Supervision& supervision) {
    const at::Tensor token = any_from(supervision.token_mask, 3);  // [B, N, 3]
    const at::Tensor cell = any_from(supervision.query_mask, 3);   // [B, N, 2]
    at::Tensor pixel = any_from(supervision.masks, 3);             // [B, N, 2]
    pixel = at::cat({pixel, pixel.any(2, /*keepdim=*/true)}, 2);   // [B, N, 3]
    const at::Tensor real = token.any(2).logical_or_(cell.any(2)).logical_or_(pixel.any(2));
    return {collect(token.logical_and(pixel), real), collect(cell, real)};
}

void check_supervision(const Supervision& s, const nn::TokenLayout& layout) {
    const std::int64_t frames = 4 * (layout.frames - 1) + 1;
    TORCH_CHECK(s.token_mask.dim() == 4, "token_mask must be [B, N, 3, L], got ",
                s.token_mask.sizes());
    const std::int64_t b = s.token_mask.size(0), n = s.token_mask.size(1);
    expect_shape(s.token_mask, {b, n, kGroundingEntities, layout.text_tokens}, "token_mask");
    expect_shape(s.query_mask, {b, n, kPropagationEntities, layout.grid_height, layout.grid_width},
                 "query_mask");
    expect_shape(s.masks, {b, n, 2, frames, 16 * layout.grid_height, 16 * layout.grid_width},
                 "masks");
}

}  // namespace matrix::alignment
