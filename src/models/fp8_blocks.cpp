#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "matrix/kernels/fp8.h"
#include "matrix/models/block_weights.h"

namespace matrix::models {
namespace {

/// A matrix in float8; everything else as it was, without a scale.
struct Stored {
    kernels::Fp8Rows rows;
    at::ScalarType dtype;

    static Stored of(const at::Tensor& tensor) {
        return {tensor.dim() == 2 ? kernels::fp8_rows(tensor) : kernels::Fp8Rows{tensor, {}},
                tensor.scalar_type()};
    }
    [[nodiscard]] at::Tensor restored() const {
        return rows.scale.defined() ? kernels::widened(rows, dtype) : rows.values;
    }
};

class Fp8Blocks final : public BlockWeights {
public:
    explicit Fp8Blocks(Fp8Use use) : use_(use) {}

    std::vector<at::Tensor> adopt(std::vector<at::Tensor> tensors) override {
        const at::NoGradGuard no_grad;
        std::vector<Stored> block;
        std::vector<at::Tensor> stand_ins;
        for (const at::Tensor& tensor : tensors) {
            block.push_back(Stored::of(tensor));
            stand_ins.push_back(at::empty({1}, tensor.options()).expand(tensor.sizes()));
        }
        blocks_.push_back(std::move(block));
        return stand_ins;
    }
    std::vector<at::Tensor> acquire(std::int64_t block) override {
        const at::NoGradGuard no_grad;
        std::vector<at::Tensor> tensors;
        for (const Stored& stored : blocks_.at(static_cast<std::size_t>(block))) {
            tensors.push_back(use_ == Fp8Use::kWidened ? stored.restored() : stored.rows.values);
        }
        return tensors;
    }
    std::vector<at::Tensor> scales(std::int64_t block) const override {
        std::vector<at::Tensor> scales;
        if (use_ == Fp8Use::kAtRest) {
            for (const Stored& stored : blocks_.at(static_cast<std::size_t>(block))) {
                scales.push_back(stored.rows.scale);
            }
        }
        return scales;
    }
    void prefetch(std::int64_t) override {}

private:
    Fp8Use use_;
    std::vector<std::vector<Stored>> blocks_;
};

}  // namespace

std::unique_ptr<BlockWeights> fp8_blocks(Fp8Use use) {
    return std::make_unique<Fp8Blocks>(use);
}

}  // namespace matrix::models
