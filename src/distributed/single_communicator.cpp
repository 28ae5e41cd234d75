#include "distributed/single_communicator.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "distributed/checks.h"

namespace matrix::distributed {
namespace {

class Done : public Work {
public:
    void wait() override {}
};

class SingleCommunicator : public Communicator {
public:
    explicit SingleCommunicator(at::Device device) : device_(device) {}

    [[nodiscard]] int rank() const override { return 0; }
    [[nodiscard]] int world_size() const override { return 1; }
    [[nodiscard]] int local_rank() const override { return 0; }
    [[nodiscard]] at::Device device() const override { return device_; }
    void set_phase(std::string_view) override {}

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

    void barrier(std::string_view) override {}

private:
    at::Device device_;
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator(at::Device device) {
    return std::make_unique<SingleCommunicator>(device);
}

}  // namespace matrix::distributed
