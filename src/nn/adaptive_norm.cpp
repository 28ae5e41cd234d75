#include "matrix/nn/adaptive_norm.h"

#include <ATen/ATen.h>

#include "matrix/kernels/modulation.h"

namespace matrix::nn {

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
    return at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

at::Tensor AdaptiveNorm::modulation(const at::Tensor& silu_embedding) const {
    return linear(silu_embedding);
}

Modulated AdaptiveNorm::operator()(const at::Tensor& x, const at::Tensor& modulation,
                                   std::int64_t text_rows) const {
    const std::vector<at::Tensor> chunks = modulation.unsqueeze(1).chunk(6, 2);  // 6 x [B, 1, D]
    return {kernels::layer_norm_modulate(x, norm.weight, norm.bias, norm.eps, text_rows,
                                         {chunks[3], chunks[0]}, {chunks[4], chunks[1]}),
            chunks[5], chunks[2]};
}

at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, std::int64_t text_rows,
                     const Modulated& gates, const std::optional<at::Tensor>& kept) {
    return kernels::gated_residual(x, y, text_rows, {gates.text_gate, gates.video_gate}, kept);
}

}  // namespace matrix::nn
