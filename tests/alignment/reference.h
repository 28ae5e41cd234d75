#pragma once

#include "matrix/alignment/readout.h"

#include <ATen/ATen.h>

#include <string>

namespace matrix::alignment::reference {

/// Largest absolute difference over the largest absolute reference value.
inline double relative_error(const at::Tensor& value, const at::Tensor& wanted) {
    const at::Tensor v = value.detach().to(at::kDouble), w = wanted.detach().to(at::kDouble);
    TORCH_CHECK(v.sizes() == w.sizes(), v.sizes(), " against ", w.sizes());
    if (w.numel() == 0) {
        return 0;
    }
    const double largest = w.abs().max().item<double>();
    return (v - w).abs().max().item<double>() / (largest > 0 ? largest : 1);
}

/// The readout by its definition: the whole [B, H, S, S] matrix, then one entity after the other.
/// Joint attention.
inline at::Tensor materialised(const ReadoutOptions& options, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& mask,
                               const nn::TokenLayout& layout) {
    const std::int64_t text = layout.text_tokens, video = layout.video_tokens();
    at::Tensor x = at::matmul(q, k.mT()) / std::sqrt(static_cast<double>(q.size(3)));
    if (options.value != ReadoutOptions::Value::kLogits) {
        x = x.softmax(-1);
    }
    if (options.center == ReadoutOptions::Center::kText) {
        x = x - x.narrow(3, 0, text).mean(3, true);
    } else if (options.center == ReadoutOptions::Center::kAll) {
        x = x - x.mean(3, true);
    }
    const at::Tensor chosen = mask.flatten(2);
    std::vector<at::Tensor> samples;
    for (std::int64_t b = 0; b < q.size(0); ++b) {
        std::vector<at::Tensor> maps;
        for (std::int64_t e = 0; e < chosen.size(1); ++e) {
            at::Tensor sum = at::zeros({video}, q.options());
            std::int64_t count = 0;
            for (std::int64_t i = 0; i < chosen.size(2); ++i) {
                if (chosen[b][e][i].item<int>() == 0) {
                    continue;
                }
                ++count;
                const at::Tensor mean = x[b].mean(0);  // [S, S]
                switch (options.direction) {
                    case ReadoutOptions::Direction::kV2t:
                        sum = sum + mean.narrow(0, text, video).select(1, i);
                        break;
                    case ReadoutOptions::Direction::kT2v:
                        sum = sum + mean.select(0, i).narrow(0, text, video);
                        break;
                    case ReadoutOptions::Direction::kV2v:
                        sum = sum + mean.select(0, text + i).narrow(0, text, video);
                        break;
                }
            }
            maps.push_back(count == 0 ? sum : sum / static_cast<double>(count));
        }
        samples.push_back(at::stack(maps));
    }
    const at::Tensor all = at::stack(samples).view(
        {q.size(0), chosen.size(1), layout.frames, layout.grid_height, layout.grid_width});
    return options.value == ReadoutOptions::Value::kLogProbabilities ? all.log() : all;
}

}  // namespace matrix::alignment::reference
