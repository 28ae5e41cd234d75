#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "matrix/models/block_weights.h"

namespace matrix::models {
namespace {

constexpr double kLargest = 448.0;  // of float8_e4m3fn

/// A matrix as float8_e4m3fn with a float32 scale a row; everything else as it was.
struct Stored {
    at::Tensor values;
    at::Tensor scale;  ///< [rows, 1], or undefined
    at::ScalarType dtype;

    static Stored of(const at::Tensor& tensor) {
        if (tensor.dim() != 2) {
            return {tensor, {}, tensor.scalar_type()};
        }
        const at::Tensor wide = tensor.to(at::kFloat);
        const at::Tensor largest = wide.abs().amax(1, true);
        // A row of zeros has no scale to find.
        const at::Tensor scale = at::where(largest > 0, largest / kLargest, at::ones_like(largest));
        return {(wide / scale).to(at::kFloat8_e4m3fn), scale, tensor.scalar_type()};
    }
    [[nodiscard]] at::Tensor restored() const {
        return scale.defined() ? values.to(at::kFloat).mul_(scale).to(dtype) : values;
    }
};

class Fp8Blocks final : public BlockWeights {
public:
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
            tensors.push_back(stored.restored());
        }
        return tensors;
    }
    void prefetch(std::int64_t) override {}

private:
    std::vector<std::vector<Stored>> blocks_;
};

}  // namespace

std::unique_ptr<BlockWeights> fp8_blocks() {
    return std::make_unique<Fp8Blocks>();
}

}  // namespace matrix::models
