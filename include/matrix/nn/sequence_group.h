#pragma once

#include <ATen/core/Tensor.h>

namespace matrix::nn {

/// The ranks that hold one clip's sequence together, each a range of its rows. All of them call the
/// same exchanges in the same order with tensors of the same shape and dtype.
class SequenceGroup {
public:
    virtual ~SequenceGroup() = default;
    [[nodiscard]] virtual int rank() const = 0;
    [[nodiscard]] virtual int size() const = 0;
    /// [size, ...]: entry i is what rank i holds at [rank].
    [[nodiscard]] virtual at::Tensor all_to_all(const at::Tensor& input) const = 0;
    /// [...] of every rank, as [size, ...].
    [[nodiscard]] virtual at::Tensor all_gather(const at::Tensor& input) const = 0;
};

}  // namespace matrix::nn
