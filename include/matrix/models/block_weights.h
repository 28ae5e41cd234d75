#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace matrix::models {

/// Where the frozen tensors of a model's blocks are, and who brings them when a block runs: the
/// model gives them away while it is built and asks for them block by block. Blocks run in any
/// order, and again in backward, but one at a time.
class BlockWeights {
public:
    virtual ~BlockWeights() = default;
    /// Takes the tensors of the next block, from block 0 on. Gives back what stands in for them in
    /// between: the same shapes, dtypes and device, and no promise about values.
    [[nodiscard]] virtual std::vector<at::Tensor> adopt(std::vector<at::Tensor> tensors) = 0;
    /// The block's tensors, in the order in which they were adopted, or none where what stands in
    /// is the tensors themselves. They stay as long as somebody holds them, a graph for instance.
    [[nodiscard]] virtual std::vector<at::Tensor> acquire(std::int64_t block) = 0;
    /// For each tensor of acquire(block) that is float8_e4m3fn, the float32 scales [rows, 1] that
    /// its rows are to be multiplied by, undefined for the others; none where no tensor is.
    [[nodiscard]] virtual std::vector<at::Tensor> scales(std::int64_t /*block*/) const {
        return {};
    }
    /// The block will be acquired soon; there may be no such block.
    virtual void prefetch(std::int64_t block) = 0;
};

/// Every block's tensors stay where they are.
[[nodiscard]] std::unique_ptr<BlockWeights> resident_blocks();

/// Blocks that streamed_blocks has room for on the device.
inline constexpr std::int64_t kStreamedBlocks = 3;

/// The tensors stay in the host's memory, page-locked for a GPU (for a CPU where they were, mapped
/// files included), and pass through kStreamedBlocks' room on the device: the one that runs, and
/// two that a copy beside the computation brings in its direction.
[[nodiscard]] std::unique_ptr<BlockWeights> streamed_blocks();

/// What a block gets of the matrices that rest in float8.
enum class Fp8Use {
    kWidened,  ///< in the dtype that they came in
    kAtRest,   ///< as they are, with their scales()
};

/// Matrices rest on the device as float8_e4m3fn, each row with a float32 scale that its largest
/// value fills (kernels/fp8.h).
[[nodiscard]] std::unique_ptr<BlockWeights> fp8_blocks(Fp8Use use = Fp8Use::kWidened);

}  // namespace matrix::models
