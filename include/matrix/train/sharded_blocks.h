#pragma once

#include "matrix/distributed/communicator.h"
#include "matrix/models/block_weights.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace matrix::train {

/// A frozen base of which every rank keeps 1 / world: a block's tensors are gathered while the one
/// before it runs, and gone when nobody holds them any more. Values are those of the whole base,
/// bit for bit. All ranks run the same blocks in the same order.
class ShardedBlocks final : public models::BlockWeights {
public:
    /// Exchanges go through `ranks`, which nothing else may use: a gather would else wait for the
    /// gradients that backward sends beside it.
    explicit ShardedBlocks(std::unique_ptr<distributed::Communicator> ranks);

    /// Tensors of one dtype; what stands in for them takes one element each.
    [[nodiscard]] std::vector<at::Tensor> adopt(std::vector<at::Tensor> tensors) override;
    [[nodiscard]] std::vector<at::Tensor> acquire(std::int64_t block) override;
    void prefetch(std::int64_t block) override;

    /// Bytes that this rank keeps.
    [[nodiscard]] std::int64_t kept_bytes() const;

private:
    struct Block {
        at::Tensor share;  ///< [n / world], the last ranks' filled up with zeros
        std::vector<std::vector<std::int64_t>> shapes;
    };
    struct Gathering {
        at::Tensor whole;  ///< [world, n / world]
        std::unique_ptr<distributed::Work> work;
    };

    std::unique_ptr<distributed::Communicator> ranks_;
    std::vector<Block> blocks_;
    std::map<std::int64_t, Gathering> under_way_;  // goes first: works end before their group
};

}  // namespace matrix::train
