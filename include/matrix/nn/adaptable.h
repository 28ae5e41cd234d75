#pragma once

#include "matrix/nn/linear.h"

#include <cstdint>
#include <map>
#include <string>

namespace matrix::nn {

/// What an adapter needs to know of a model: the linears a low-rank delta may sit on, and the input
/// projection.
class Adaptable {
public:
    virtual ~Adaptable() = default;
    [[nodiscard]] virtual std::int64_t num_blocks() const = 0;
    /// By checkpoint key without ".weight", "patch_embed.proj" among them.
    [[nodiscard]] virtual std::map<std::string, Linear*> adaptable_linears() = 0;
    /// The patch embedding's projection, under the checkpoint key "patch_embed.proj".
    [[nodiscard]] virtual Linear& input_projection() = 0;
    [[nodiscard]] virtual std::int64_t in_channels() const = 0;
    /// Grows the input projection to `channels` input channels; the added weights are zero, so that
    /// the model computes exactly what it did.
    virtual void widen_input(std::int64_t channels) = 0;
};

}  // namespace matrix::nn
