#include "distributed/gloo_communicator.h"

#include <ATen/ATen.h>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "distributed/checks.h"
#include "distributed/group_communicator.h"
#include "distributed/reduce_op.h"

namespace matrix::distributed {
namespace {

using c10d::ProcessGroupGloo;

/// Gloo sums in the tensor's own dtype and leaves averages to its caller.
class GlooCommunicator : public GroupCommunicator {
public:
    GlooCommunicator(const Environment& environment, std::chrono::milliseconds timeout)
        : GroupCommunicator(environment, at::kCPU, timeout) {
        connect_all();
    }
    GlooCommunicator(const GroupCommunicator& parent, Group group)
        : GroupCommunicator(parent, std::move(group)) {
        connect_all();
    }

    std::unique_ptr<Work> all_reduce(at::Tensor& tensor, ReduceOp op,
                                     std::string_view what) override {
        check_tensor(tensor, "all_reduce");
        const bool in_place = !is_narrow(tensor);
        const at::Tensor buffer = in_place ? tensor : tensor.detach().to(at::kFloat);
        return reduce(buffer, op, what, [tensor, buffer, in_place, this, op] {
            divide(buffer, op);
            if (!in_place) {
                tensor.copy_(buffer);
            }
        });
    }

    std::unique_ptr<Work> reduce_scatter(at::Tensor& output, const at::Tensor& input, ReduceOp op,
                                         std::string_view what) override {
        check_gathered(input, output, world_size());
        const at::Tensor buffer =
            input.detach().to(is_narrow(input) ? at::kFloat : input.scalar_type(),
                              /*non_blocking=*/false, /*copy=*/true);
        return reduce(buffer, op, what, [output, buffer, this, op] {
            const at::Tensor row = buffer[rank()];
            divide(row, op);
            output.copy_(row);
        });
    }

protected:
    [[nodiscard]] std::unique_ptr<Communicator> make_subgroup(Group group) const override {
        return std::make_unique<GlooCommunicator>(*this, std::move(group));
    }

private:
    void connect_all() {
        connect([&](const c10::intrusive_ptr<c10d::Store>& store) {
            auto options = ProcessGroupGloo::Options::create(timeout());
            if (environment().local_world_size == environment().world_size) {
                options->devices.push_back(ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
            } else {
                options = ProcessGroupGloo::Options::create_default(timeout());
            }
            return c10::make_intrusive<ProcessGroupGloo>(store, rank(), world_size(), options);
        });
        // A rank that has its connections and leaves at once would break those still being made.
        GroupCommunicator::barrier(kConnecting);
    }

    static bool is_narrow(const at::Tensor& tensor) {
        return tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf;
    }

    void divide(const at::Tensor& sum, ReduceOp op) const {
        if (op == ReduceOp::kAverage) {
            sum.div_(world_size());
        }
    }

    std::unique_ptr<Work> reduce(const at::Tensor& buffer, ReduceOp op, std::string_view what,
                                 std::function<void()> finish) {
        TORCH_CHECK(op != ReduceOp::kAverage || buffer.is_floating_point(),
                    "an average of whole numbers: ", buffer.scalar_type());
        return launch(
            what,
            [&] {
                std::vector<at::Tensor> tensors{buffer};
                c10d::AllreduceOptions options;
                options.reduceOp = to_c10d(op == ReduceOp::kAverage ? ReduceOp::kSum : op);
                return backend().allreduce(tensors, options);
            },
            std::move(finish));
    }
};

}  // namespace

std::unique_ptr<Communicator> make_gloo_communicator(const Environment& environment,
                                                     std::chrono::seconds timeout) {
    return std::make_unique<GlooCommunicator>(environment, timeout);
}

}  // namespace matrix::distributed
