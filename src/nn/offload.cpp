#include "matrix/nn/offload.h"

#include "matrix/core/copy_stream.h"
#include "matrix/core/host_pages.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>

namespace matrix::nn {
namespace {

/// What those that are stored have in common. One order of copies for both directions is all that
/// pages need to be used again: who writes them next does so after who read them last.
struct Shared {
    std::vector<HostPages> free;
    std::int64_t host_bytes = 0;
    std::vector<at::Tensor> sending;  // nobody may reuse their memory yet
    CopyStream::Mark sent;
    CopyStream copies;  // ends before the pages do

    [[nodiscard]] HostPages take_pages(std::size_t bytes, const at::Device& device) {
        auto best = free.end();
        for (auto pages = free.begin(); pages != free.end(); ++pages) {
            if (pages->bytes() >= bytes && (best == free.end() || pages->bytes() < best->bytes())) {
                best = pages;
            }
        }
        if (best == free.end()) {
            HostPages made(bytes, device,
                           "activations of " + device.str() +
                               "; a larger memory.device_budget_gib keeps more of them there");
            host_bytes += static_cast<std::int64_t>(bytes);
            return made;
        }
        HostPages found = std::move(*best);
        free.erase(best);
        return found;
    }
    void release_sent() {
        if (!sending.empty()) {
            copies.wait(sent);
            sending.clear();
        }
    }
};

class Stored final : public OffloadedTensors {
public:
    Stored(std::shared_ptr<Shared> shared, const std::vector<at::Tensor>& tensors)
        : shared_(std::move(shared)), device_(tensors.at(0).device()) {
        std::vector<at::Tensor> dense;
        std::size_t bytes = 0;
        for (const at::Tensor& tensor : tensors) {
            TORCH_CHECK(tensor.device() == device_, "tensors of ", device_, " and ",
                        tensor.device(), " offloaded together");
            dense.push_back(tensor.is_non_overlapping_and_dense() ? tensor.detach()
                                                                  : tensor.detach().clone());
            shapes_.push_back(
                at::empty_like(dense.back(), dense.back().options().device(at::kMeta)));
            bytes += aligned_size(tensor.nbytes());
        }
        pages_ = shared_->take_pages(bytes, device_);
        shared_->copies.begin(device_);
        copy(dense, [this](std::byte* host, const at::Tensor& tensor) {
            shared_->copies.copy(host, tensor.const_data_ptr(), tensor.nbytes());
        });
        if (device_.is_cuda()) {
            shared_->copies.end(shared_->sent);
            shared_->sending = std::move(dense);
        }
    }
    Stored(const Stored&) = delete;
    Stored& operator=(const Stored&) = delete;
    ~Stored() override {
        try {
            if (pages_) {
                shared_->free.push_back(*std::move(pages_));
            } else if (!back_.empty()) {
                shared_->copies.wait(arrived_);  // before their memory is used again
            }
        } catch (const c10::Error&) {  // of a device that has failed, which others have told
        }
    }

    void fetch() override {
        if (!pages_) {
            return;
        }
        shared_->release_sent();
        for (const at::Tensor& shape : shapes_) {
            back_.push_back(at::empty_like(shape, shape.options().device(device_)));
        }
        shared_->copies.begin(device_);
        copy(back_, [this](const std::byte* host, const at::Tensor& tensor) {
            shared_->copies.copy(tensor.mutable_data_ptr(), host, tensor.nbytes());
        });
        shared_->copies.end(arrived_);
        shared_->free.push_back(*std::exchange(pages_, std::nullopt));
    }

    std::vector<at::Tensor> take() override {
        fetch();
        TORCH_CHECK(!back_.empty(), "offloaded tensors were taken twice");
        shared_->copies.wait(arrived_);
        return std::exchange(back_, {});
    }

private:
    void copy(const std::vector<at::Tensor>& tensors, const auto& copy_one) const {
        std::byte* host = pages_->data();
        for (const at::Tensor& tensor : tensors) {
            copy_one(host, tensor);
            host += aligned_size(tensor.nbytes());
        }
    }

    std::shared_ptr<Shared> shared_;
    at::Device device_;
    std::vector<at::Tensor> shapes_;  // without values
    std::optional<HostPages> pages_;
    std::vector<at::Tensor> back_;
    CopyStream::Mark arrived_;
};

class Offload final : public ActivationOffload {
public:
    std::weak_ptr<OffloadedTensors> end_block() override {
        shared_->release_sent();
        return std::exchange(latest_, {});
    }
    std::shared_ptr<OffloadedTensors> store(const std::vector<at::Tensor>& tensors) override {
        shared_->release_sent();
        const auto stored = std::make_shared<Stored>(shared_, tensors);
        latest_ = stored;
        return stored;
    }
    [[nodiscard]] std::int64_t host_bytes() const override { return shared_->host_bytes; }

private:
    std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
    std::weak_ptr<OffloadedTensors> latest_;
};

}  // namespace

std::shared_ptr<ActivationOffload> make_activation_offload() {
    return std::make_shared<Offload>();
}

}  // namespace matrix::nn
