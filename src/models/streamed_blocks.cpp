#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <utility>

#include "matrix/models/block_weights.h"
#ifdef MATRIX_WITH_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace matrix::models {
namespace {

// One that runs, two that are on their way.
constexpr auto kSlots = static_cast<std::size_t>(kStreamedBlocks);

using Tensors = std::vector<at::Tensor>;

/// Copies to the device beside what it computes; on a CPU, plainly.
class Copies {
public:
#ifdef MATRIX_WITH_CUDA
    void copy(std::size_t slot, const Tensors& into, const Tensors& from) {
        if (!into.front().is_cuda()) {
            at::_foreach_copy_(into, from);
            return;
        }
        if (!stream_) {
            stream_ = c10::cuda::getStreamFromPool(false, into.front().get_device());
        }
        // What is queued on the device may still read what is overwritten.
        at::cuda::CUDAEvent queued;
        queued.record();
        queued.block(*stream_);
        const c10::cuda::CUDAStreamGuard guard(*stream_);
        for (std::size_t i = 0; i < into.size(); ++i) {
            into[i].copy_(from[i], true);
        }
        arrived_[slot].record();
    }
    void wait(std::size_t slot) {
        if (stream_) {
            arrived_[slot].block(c10::cuda::getCurrentCUDAStream());
        }
    }

private:
    std::optional<c10::cuda::CUDAStream> stream_;
    std::array<at::cuda::CUDAEvent, kSlots> arrived_;
#else
    static void copy(std::size_t, const Tensors& into, const Tensors& from) {
        at::_foreach_copy_(into, from);
    }
    static void wait(std::size_t) {}
#endif
};

class StreamedBlocks final : public BlockWeights {
public:
    Tensors adopt(Tensors tensors) override {
        Tensors stand_ins;
        for (const at::Tensor& tensor : tensors) {
            TORCH_CHECK(tensor.options().type_equal(tensors.front().options()),
                        "a streamed block of several dtypes");
            stand_ins.push_back(at::empty({1}, tensor.options()).expand(tensor.sizes()));
        }
        device_ = tensors.front().device();
        if (!device_.is_cpu()) {
            tensors = pinned(tensors);
        }
        host_.push_back(std::move(tensors));
        return stand_ins;
    }

    void prefetch(std::int64_t block) override {
        const std::int64_t direction = block > running_ ? 1 : -1;
        fetch(block);
        fetch(block + direction);
    }

    Tensors acquire(std::int64_t block) override {
        running_ = block;
        const std::size_t slot = fetch(block);
        copies_.wait(slot);
        return slots_[slot].tensors;
    }

private:
    struct Slot {
        std::int64_t block = -1;
        Tensors tensors;

        /// A graph may hold them still.
        [[nodiscard]] bool held() const {
            return std::any_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
                return tensor.use_count() > 1 || tensor.storage().use_count() > 1;
            });
        }
    };

    /// The same tensors in page-locked memory, which the device can copy from by itself.
    static Tensors pinned(const Tensors& tensors) {
        std::int64_t total = 0;
        for (const at::Tensor& tensor : tensors) {
            total += tensor.numel();
        }
        const at::Tensor flat =
            at::empty({total}, tensors.front().options().device(at::kCPU).pinned_memory(true));
        Tensors views;
        std::int64_t begin = 0;
        for (const at::Tensor& tensor : tensors) {
            views.push_back(flat.narrow(0, begin, tensor.numel()).view(tensor.sizes()));
            views.back().copy_(tensor);
            begin += tensor.numel();
        }
        return views;
    }

    /// The slot that holds the block or will, once what was queued for it is done. A block that
    /// there is not: any.
    std::size_t fetch(std::int64_t block) {
        if (block < 0 || block >= static_cast<std::int64_t>(host_.size())) {
            return 0;
        }
        for (std::size_t slot = 0; slot < kSlots; ++slot) {
            if (slots_[slot].block == block) {
                return slot;
            }
        }
        const at::NoGradGuard no_grad;
        const std::size_t slot = victim(block);
        Slot& into = slots_[slot];
        const Tensors& from = host_[static_cast<std::size_t>(block)];
        if (into.tensors.empty() || into.held()) {
            into.tensors.clear();
            for (const at::Tensor& tensor : from) {
                into.tensors.push_back(at::empty(tensor.sizes(), tensor.options().device(device_)));
            }
        }
        copies_.copy(slot, into.tensors, from);
        into.block = block;
        return slot;
    }

    /// The slot whose block is farthest from the one that runs and the one that is fetched.
    [[nodiscard]] std::size_t victim(std::int64_t block) const {
        const auto distance = [&](const Slot& slot) {
            return slot.block < 0 ? INT64_MAX
                                  : std::abs(slot.block - running_) + std::abs(slot.block - block);
        };
        return static_cast<std::size_t>(std::max_element(slots_.begin(), slots_.end(),
                                                         [&](const Slot& a, const Slot& b) {
                                                             return distance(a) < distance(b);
                                                         }) -
                                        slots_.begin());
    }

    std::vector<Tensors> host_;
    std::array<Slot, kSlots> slots_;
    Copies copies_;
    at::Device device_ = at::kCPU;
    std::int64_t running_ = -1;
};

}  // namespace

std::unique_ptr<BlockWeights> streamed_blocks() {
    return std::make_unique<StreamedBlocks>();
}

}  // namespace matrix::models
