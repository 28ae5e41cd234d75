#pragma once

#include "matrix/kernels/mask_loss.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace matrix::alignment {

/// A lightweight causal decoder from attention maps to mask logits (paper section 5, appendix D),
/// dropped at inference. Latent frame k speaks for pixel frames 4k-3 .. 4k (k = 0 for frame 0) and
/// influences no earlier one; maps do not influence each other.
class Head {
public:
    virtual ~Head() = default;

    /// map [M, F, gh, gw] float32 -> logits of 4(F-1)+1 frames of 16 gh x 16 gw pixels.
    /// Differentiable in the map and the parameters.
    [[nodiscard]] virtual kernels::CellLogits logits(const at::Tensor& map) const = 0;

    /// The same for every pixel: [M, 4(F-1)+1, 16 gh, 16 gw].
    [[nodiscard]] at::Tensor decode(const at::Tensor& map) const {
        return kernels::pixel_logits(logits(map));
    }

    /// Trainable float32 leaves by full checkpoint name.
    [[nodiscard]] const std::map<std::string, at::Tensor>& parameters() const {
        return parameters_;
    }

protected:
    std::map<std::string, at::Tensor> parameters_;
};

/// `kind`:
///   "affine"    softplus(gamma) * up(map) + beta, at first 1 and -3 (about the log-odds of a
///   mask's share); up is bilinear
///               with half-pixel centres in space and repeats a latent frame over its pixel frames.
///               The slope cannot change sign, so that the loss falls only as attention moves onto
///               the instance.
///   "residual"  the same plus causal 3D convolutions at the map's resolution whose last layer,
///   zero at first,
///               unfolds 4 x 16 x 16 channels to frames and pixels
///   "conv"      a free causal decoder (time F -> 2F-1 -> 4F-3), for ablation
/// `name` prefixes the parameters ("heads.grounding"); each is drawn from (seed, its name), so that
/// equal seeds give equal heads and the two heads of a run differ.
[[nodiscard]] std::unique_ptr<Head> make_head(const std::string& kind, const std::string& name,
                                              std::uint64_t seed, at::Device device);

/// The map as logits, each cell repeated over its 16 x 16 pixels and its frames: [M, F, gh, gw] ->
/// [M, T, 16 gh, 16 gw].
[[nodiscard]] at::Tensor repeat_cells(const at::Tensor& map);

}  // namespace matrix::alignment
