#include "matrix/train/sharded_blocks.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

#include <utility>

namespace matrix::train {

ShardedBlocks::ShardedBlocks(std::unique_ptr<distributed::Communicator> ranks)
    : ranks_(std::move(ranks)) {}

std::vector<at::Tensor> ShardedBlocks::adopt(std::vector<at::Tensor> tensors) {
    Block block;
    std::vector<at::Tensor> flat, stand_ins;
    for (const at::Tensor& tensor : tensors) {
        TORCH_CHECK(tensor.scalar_type() == tensors.front().scalar_type(),
                    "a sharded block of several dtypes");
        block.shapes.push_back(tensor.sizes().vec());
        flat.push_back(tensor.reshape(-1));
        stand_ins.push_back(at::zeros({1}, tensor.options()).expand(tensor.sizes()));
    }
    const at::Tensor whole = at::cat(flat);
    const std::int64_t world = ranks_->world_size();
    const std::int64_t share = (whole.numel() + world - 1) / world;
    block.share = at::zeros({share}, whole.options());
    const std::int64_t begin = std::min(ranks_->rank() * share, whole.numel());
    const std::int64_t count = std::min(share, whole.numel() - begin);
    block.share.narrow(0, 0, count).copy_(whole.narrow(0, begin, count));
    blocks_.push_back(std::move(block));
    return stand_ins;
}

void ShardedBlocks::prefetch(std::int64_t block) {
    if (block < 0 || block >= static_cast<std::int64_t>(blocks_.size()) ||
        under_way_.count(block) != 0) {
        return;
    }
    const at::NoGradGuard no_grad;
    const at::Tensor& share = blocks_[static_cast<std::size_t>(block)].share;
    Gathering gathering{at::empty({ranks_->world_size(), share.numel()}, share.options()), {}};
    gathering.work =
        ranks_->all_gather(gathering.whole, share, "weights of block " + std::to_string(block));
    under_way_.emplace(block, std::move(gathering));
}

std::vector<at::Tensor> ShardedBlocks::acquire(std::int64_t block) {
    prefetch(block);
    Gathering gathering = std::move(under_way_.extract(block).mapped());
    gathering.work->wait();
    const at::Tensor whole = gathering.whole.view(-1);
    std::vector<at::Tensor> tensors;
    std::int64_t begin = 0;
    for (const auto& shape : blocks_.at(static_cast<std::size_t>(block)).shapes) {
        const std::int64_t count = c10::multiply_integers(shape);
        tensors.push_back(whole.narrow(0, begin, count).view(shape));
        begin += count;
    }
    return tensors;
}

std::int64_t ShardedBlocks::kept_bytes() const {
    std::int64_t bytes = 0;
    for (const Block& block : blocks_) {
        bytes += static_cast<std::int64_t>(block.share.nbytes());
    }
    return bytes;
}

}  // namespace matrix::train
