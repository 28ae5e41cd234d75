#include "distributed/single_communicator.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <mutex>

#include "distributed/checks.h"
#include "distributed/messages.h"

namespace matrix::distributed {
namespace {

class Done : public Work {
public:
    void wait() override {}
};

class SingleCommunicator : public Communicator {
public:
    SingleCommunicator(at::Device device, Communicator* parent)
        : device_(device), parent_(parent) {}

    [[nodiscard]] int rank() const override { return 0; }
    [[nodiscard]] int world_size() const override { return 1; }
    [[nodiscard]] int local_rank() const override { return parent_ ? parent_->local_rank() : 0; }
    [[nodiscard]] at::Device device() const override { return device_; }
    void set_phase(std::string_view what) override {
        if (parent_) {
            parent_->set_phase(what);
            return;
        }
        const std::lock_guard lock(mutex_);
        phase_ = first_line(what);
    }
    [[nodiscard]] std::string phases() override {
        if (parent_) {
            return parent_->phases();
        }
        const std::lock_guard lock(mutex_);
        return "rank 0: " + phase_;
    }

    std::unique_ptr<Work> all_reduce(at::Tensor& tensor, ReduceOp, std::string_view) override {
        check_tensor(tensor, "all_reduce");
        return std::make_unique<Done>();
    }

    std::unique_ptr<Work> broadcast(at::Tensor& tensor, int root, std::string_view) override {
        check_tensor(tensor, "broadcast");
        TORCH_CHECK(root == 0, "broadcast from rank ", root, " of 1");
        return std::make_unique<Done>();
    }

    std::unique_ptr<Work> all_gather(at::Tensor& output, const at::Tensor& input,
                                     std::string_view) override {
        check_gathered(output, input, 1);
        const c10::NoGradGuard no_grad;
        output[0].copy_(input);
        return std::make_unique<Done>();
    }

    std::unique_ptr<Work> reduce_scatter(at::Tensor& output, const at::Tensor& input, ReduceOp,
                                         std::string_view) override {
        check_gathered(input, output, 1);
        const c10::NoGradGuard no_grad;
        output.copy_(input[0]);
        return std::make_unique<Done>();
    }

    std::unique_ptr<Work> all_to_all(at::Tensor& output, const at::Tensor& input,
                                     std::string_view) override {
        check_exchanged(output, input, 1);
        const c10::NoGradGuard no_grad;
        output.copy_(input);
        return std::make_unique<Done>();
    }

    void barrier(std::string_view) override {}
    void meet(std::string_view what) override { set_phase(what); }

    std::unique_ptr<Communicator> subgroup(const std::vector<int>& ranks,
                                           std::string_view) override {
        check_members(ranks, 0, 1);
        return make_single_communicator(device_, this);
    }

private:
    at::Device device_;
    Communicator* parent_;
    std::mutex mutex_;
    std::string phase_ = "joining the group";
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator(at::Device device, Communicator* parent) {
    return std::make_unique<SingleCommunicator>(device, parent);
}

}  // namespace matrix::distributed
