#include "distributed/group_communicator.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <exception>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <utility>

#include "distributed/checks.h"
#include "distributed/reduce_op.h"
#include "matrix/core/error.h"

namespace matrix::distributed {

class GroupCommunicator::GroupWork : public Work {
public:
    GroupWork(GroupCommunicator& group, FailedExchange exchange, BackendWork work,
              std::function<void()> finish)
        : group_(group),
          exchange_(std::move(exchange)),
          work_(std::move(work)),
          finish_(std::move(finish)) {}

    void wait() override {
        if (!work_) {
            return;
        }
        const BackendWork work = std::exchange(work_, nullptr);
        group_.guard(exchange_, [&] { work->wait(); });
        if (finish_) {
            const c10::NoGradGuard no_grad;
            finish_();
        }
    }

private:
    GroupCommunicator& group_;
    FailedExchange exchange_;
    BackendWork work_;
    std::function<void()> finish_;
};

GroupCommunicator::GroupCommunicator(const Environment& environment, at::Device device,
                                     std::chrono::milliseconds timeout)
    : environment_(environment),
      device_(device),
      timeout_(timeout),
      rendezvous_(environment, timeout) {}

GroupCommunicator::~GroupCommunicator() = default;

void GroupCommunicator::connect(const MakeBackend& make) {
    FailedExchange exchange = join("connecting the ranks");
    guard(exchange, [&] { backend_ = make(); });
}

FailedExchange GroupCommunicator::join(std::string_view what) {
    return {environment_.rank, std::string(what), rendezvous_.board().join(what), {}, timeout_};
}

void GroupCommunicator::guard(FailedExchange& exchange, const std::function<void()>& run) {
    if (const auto message = failure()) {
        failed_ = true;
        rendezvous_.set_failed();
        throw RunError(*message);
    }
    try {
        run();
    } catch (const std::exception& fault) {
        failed_ = true;
        rendezvous_.set_failed();
        exchange.cause = fault.what();
        throw RunError(rendezvous_.explain(exchange));
    }
}

std::unique_ptr<Work> GroupCommunicator::launch(std::string_view what,
                                                const std::function<BackendWork()>& start,
                                                std::function<void()> finish) {
    FailedExchange exchange = join(what);
    BackendWork work;
    guard(exchange, [&] { work = start(); });
    started(work, exchange);
    return std::make_unique<GroupWork>(*this, std::move(exchange), std::move(work),
                                       std::move(finish));
}

std::unique_ptr<Work> GroupCommunicator::all_reduce(at::Tensor& tensor, ReduceOp op,
                                                    std::string_view what) {
    check_tensor(tensor, "all_reduce");
    return launch(what, [&] {
        std::vector<at::Tensor> tensors{tensor};
        c10d::AllreduceOptions options;
        options.reduceOp = to_c10d(op);
        return backend_->allreduce(tensors, options);
    });
}

std::unique_ptr<Work> GroupCommunicator::broadcast(at::Tensor& tensor, int root,
                                                   std::string_view what) {
    check_tensor(tensor, "broadcast");
    TORCH_CHECK(0 <= root && root < world_size(), "broadcast from rank ", root, " of ",
                world_size());
    return launch(what, [&] {
        std::vector<at::Tensor> tensors{tensor};
        c10d::BroadcastOptions options;
        options.rootRank = root;
        return backend_->broadcast(tensors, options);
    });
}

std::unique_ptr<Work> GroupCommunicator::all_gather(at::Tensor& output, const at::Tensor& input,
                                                    std::string_view what) {
    check_gathered(output, input, world_size());
    return launch(what, [&] {
        // Flat, since Gloo takes the two for tensors of as many dimensions.
        at::Tensor flat_output = output.detach().view(-1);
        at::Tensor flat_input = input.detach().view(-1);
        return backend_->_allgather_base(flat_output, flat_input);
    });
}

std::unique_ptr<Work> GroupCommunicator::reduce_scatter(at::Tensor& output, const at::Tensor& input,
                                                        ReduceOp op, std::string_view what) {
    check_gathered(input, output, world_size());
    return launch(what, [&] {
        at::Tensor source = input;
        c10d::ReduceScatterOptions options;
        options.reduceOp = to_c10d(op);
        return backend_->_reduce_scatter_base(output, source, options);
    });
}

void GroupCommunicator::barrier(std::string_view what) {
    // Every rank knows a sum only once every rank has given its part.
    at::Tensor arrived = at::ones({1}, at::TensorOptions(at::kInt).device(device_));
    GroupCommunicator::all_reduce(arrived, ReduceOp::kSum, what)->wait();
    FailedExchange exchange{rank(), std::string(what), 0, {}, timeout_};
    guard(exchange, [&] {
        TORCH_CHECK(arrived.item<int>() == world_size(), "the barrier counted ",
                    arrived.item<int>(), " ranks");  // item(): a GPU's host waits too
    });
}

}  // namespace matrix::distributed
