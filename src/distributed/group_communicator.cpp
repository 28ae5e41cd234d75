#include "distributed/group_communicator.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <exception>
#include <numeric>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <utility>

#include "distributed/checks.h"
#include "distributed/messages.h"
#include "distributed/reduce_op.h"
#include "distributed/single_communicator.h"
#include "matrix/core/error.h"

namespace matrix::distributed {
namespace {

Group all_ranks(int world_size) {
    Group group;
    group.ranks.resize(world_size);
    std::iota(group.ranks.begin(), group.ranks.end(), 0);
    return group;
}

int place_of(int rank, const std::vector<int>& ranks) {
    return static_cast<int>(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin());
}

}  // namespace

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
      group_(std::make_shared<Group>(all_ranks(environment.world_size))),
      rank_(environment.rank),
      rendezvous_(std::make_shared<Rendezvous>(environment, timeout)) {}

GroupCommunicator::GroupCommunicator(const GroupCommunicator& parent, Group group)
    : environment_(parent.environment_),
      device_(parent.device_),
      timeout_(parent.timeout_),
      group_(std::make_shared<Group>(std::move(group))),
      rank_(place_of(environment_.rank, group_->ranks)),
      rendezvous_(parent.rendezvous_) {}

GroupCommunicator::~GroupCommunicator() {
    rendezvous_->board().leave_group(group_->name);
}

void GroupCommunicator::connect(const MakeBackend& make) {
    guard(join(kConnecting), [&] {
        backend_ = make(
            c10::make_intrusive<c10d::PrefixStore>("group/" + group_->name, rendezvous_->store()));
    });
}

FailedExchange GroupCommunicator::exchange(std::string_view what, std::int64_t index) const {
    return {environment_.rank, group_, first_line(what), index, {}, timeout_};
}

FailedExchange GroupCommunicator::join(std::string_view what) {
    return exchange(what, rendezvous_->board().join(group_->name, what));
}

void GroupCommunicator::guard(const FailedExchange& exchange, const std::function<void()>& run) {
    if (const auto message = rendezvous_->failure()) {
        throw RunError(*message);
    }
    try {
        run();
    } catch (const std::exception& fault) {
        FailedExchange failed = exchange;
        failed.cause = fault.what();
        throw RunError(rendezvous_->fail(failed));
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

std::unique_ptr<Work> GroupCommunicator::all_to_all(at::Tensor& output, const at::Tensor& input,
                                                    std::string_view what) {
    check_exchanged(output, input, world_size());
    return launch(what, [&] {
        at::Tensor flat_output = output.detach().view(-1);
        at::Tensor flat_input = input.detach().view(-1);
        std::vector<std::int64_t> equal_parts;
        return backend_->alltoall_base(flat_output, flat_input, equal_parts, equal_parts);
    });
}

void GroupCommunicator::check() {
    if (const auto failure = rendezvous_->failure()) {
        throw RunError(*failure);
    }
}

void GroupCommunicator::barrier(std::string_view what) {
    // Every rank knows a sum only once every rank has given its part.
    at::Tensor arrived = at::ones({1}, at::TensorOptions(at::kInt).device(device_));
    GroupCommunicator::all_reduce(arrived, ReduceOp::kSum, what)->wait();
    guard(exchange(what, 0), [&] {
        TORCH_CHECK(arrived.item<int>() == world_size(), "the barrier counted ",
                    arrived.item<int>(), " ranks");  // item(): a GPU's host waits too
    });
}

void GroupCommunicator::meet(std::string_view what) {
    set_phase(what);
    // Every rank counts the same.
    const std::string place = group_->name + "/" + std::to_string(++num_meetings_);
    guard(exchange(what, 0), [&] { rendezvous_->meet(place, group_->ranks); });
}

std::unique_ptr<Communicator> GroupCommunicator::subgroup(const std::vector<int>& ranks,
                                                          std::string_view name) {
    check_members(ranks, rank(), world_size());
    std::string path = group_->name.empty() ? "" : group_->name + "/";
    // The number tells apart what is made again under the name; every rank counts the same.
    path += std::to_string(++num_subgroups_) + ":" + std::string(name) + "[";
    Group group;
    for (const int member : ranks) {
        group.ranks.push_back(group_->ranks[member]);
        path += (member == ranks.front() ? "" : ",") + std::to_string(group.ranks.back());
    }
    group.name = path + "]";
    return ranks.size() == 1 ? make_single_communicator(device_, this)
                             : make_subgroup(std::move(group));
}

}  // namespace matrix::distributed
