#include "matrix/models/block_weights.h"

namespace matrix::models {
namespace {

class ResidentBlocks final : public BlockWeights {
public:
    std::vector<at::Tensor> adopt(std::vector<at::Tensor> tensors) override { return tensors; }
    std::vector<at::Tensor> acquire(std::int64_t) override { return {}; }
    void prefetch(std::int64_t) override {}
};

}  // namespace

std::unique_ptr<BlockWeights> resident_blocks() {
    return std::make_unique<ResidentBlocks>();
}

}  // namespace matrix::models
