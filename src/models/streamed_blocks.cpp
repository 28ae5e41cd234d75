#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <utility>

#include "matrix/core/copy_stream.h"
#include "matrix/core/host_pages.h"
#include "matrix/models/block_weights.h"

namespace matrix::models {
namespace {

// One that runs, two that are on their way.
constexpr auto kSlots = static_cast<std::size_t>(kStreamedBlocks);

using Tensors = std::vector<at::Tensor>;

class StreamedBlocks final : public BlockWeights {
public:
    Tensors adopt(Tensors tensors) override {
        Tensors stand_ins;
        for (const at::Tensor& tensor : tensors) {
            TORCH_CHECK(tensor.options().type_equal(tensors.front().options()),
                        "a streamed block of several dtypes");
            TORCH_CHECK(tensor.is_contiguous(), "a streamed tensor that is a view");
            stand_ins.push_back(at::empty({1}, tensor.options()).expand(tensor.sizes()));
        }
        device_ = tensors.front().device();
        host_.push_back(device_.is_cpu() ? HostBlock{std::move(tensors), std::nullopt}
                                         : in_pages(tensors));
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
        copies_.wait(slots_[slot].arrived);
        return slots_[slot].tensors;
    }

private:
    struct HostBlock {
        Tensors tensors;
        std::optional<HostPages> pages;  ///< that hold them, for a GPU
    };
    struct Slot {
        std::int64_t block = -1;
        Tensors tensors;
        CopyStream::Mark arrived;

        /// A graph may hold them still.
        [[nodiscard]] bool held() const {
            return std::any_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
                return tensor.use_count() > 1 || tensor.storage().use_count() > 1;
            });
        }
    };

    /// The same tensors where the device can copy from by itself.
    static HostBlock in_pages(const Tensors& tensors) {
        std::size_t bytes = 0;
        for (const at::Tensor& tensor : tensors) {
            bytes += aligned_size(tensor.nbytes());
        }
        const at::Device device = tensors.front().device();
        HostBlock block{
            {},
            HostPages(bytes, device,
                      "blocks of " + device.str() + "; memory.base = resident keeps them there")};
        std::byte* next = block.pages->data();
        for (const at::Tensor& tensor : tensors) {
            block.tensors.push_back(
                at::from_blob(next, tensor.sizes(), tensor.options().device(at::kCPU)));
            block.tensors.back().copy_(tensor);
            next += aligned_size(tensor.nbytes());
        }
        return block;
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
        const Tensors& from = host_[static_cast<std::size_t>(block)].tensors;
        if (into.tensors.empty() || into.held()) {
            into.tensors.clear();
            for (const at::Tensor& tensor : from) {
                into.tensors.push_back(at::empty(tensor.sizes(), tensor.options().device(device_)));
            }
        }
        copies_.begin(device_);
        for (std::size_t i = 0; i < from.size(); ++i) {
            copies_.copy(into.tensors[i].mutable_data_ptr(), from[i].const_data_ptr(),
                         from[i].nbytes());
        }
        copies_.end(into.arrived);
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

    std::vector<HostBlock> host_;
    std::array<Slot, kSlots> slots_;
    CopyStream copies_;  // ends before what it copies from and to goes
    at::Device device_ = at::kCPU;
    std::int64_t running_ = -1;
};

}  // namespace

std::unique_ptr<BlockWeights> streamed_blocks() {
    return std::make_unique<StreamedBlocks>();
}

}  // namespace matrix::models
