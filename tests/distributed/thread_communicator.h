#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "distributed/checks.h"
#include "distributed/messages.h"
#include "distributed/phases.h"
#include "distributed/rank_state.h"
#include "matrix/core/error.h"
#include "matrix/distributed/communicator.h"

namespace matrix::test {

/// What the ranks of one run share: in place of a store and a backend, memory under a lock.
struct ThreadRun {
    /// One exchange: what each rank gave, by rank; none of that changes any more.
    struct Exchange {
        std::string operation;
        std::vector<at::Tensor> inputs;
        std::size_t num_given = 0;
        std::size_t num_taken = 0;
    };

    std::mutex mutex;
    std::condition_variable changed;
    std::chrono::milliseconds timeout;
    distributed::RankStates states;
    std::map<std::pair<std::string, std::int64_t>, Exchange> exchanges;  // by group and index
    std::optional<std::string> failure;
    std::exception_ptr thrown;  // the first that a rank let out
};

/// A rank that is a thread, made by run_in_threads. Exchanges end in wait(), as real ones may.
class ThreadCommunicator : public distributed::Communicator {
public:
    using Work = distributed::Work;
    using ReduceOp = distributed::ReduceOp;

    ThreadCommunicator(std::shared_ptr<ThreadRun> run, distributed::Group group, int rank_of_run)
        : run_(std::move(run)),
          group_(std::make_shared<distributed::Group>(std::move(group))),
          rank_of_run_(rank_of_run) {}
    ~ThreadCommunicator() override {
        const std::lock_guard lock(run_->mutex);
        state().groups[group_->name].left = true;
        state().left = state().left || group_->name.empty();
        run_->changed.notify_all();
    }
    ThreadCommunicator(const ThreadCommunicator&) = delete;
    ThreadCommunicator& operator=(const ThreadCommunicator&) = delete;

    [[nodiscard]] int rank() const override {
        const std::vector<int>& ranks = group_->ranks;
        return static_cast<int>(std::find(ranks.begin(), ranks.end(), rank_of_run_) -
                                ranks.begin());
    }
    [[nodiscard]] int world_size() const override { return static_cast<int>(group_->ranks.size()); }
    [[nodiscard]] int local_rank() const override { return rank_of_run_; }
    [[nodiscard]] at::Device device() const override { return at::kCPU; }

    void set_phase(std::string_view what) override {
        const std::lock_guard lock(run_->mutex);
        state().phase = distributed::first_line(what);
    }
    [[nodiscard]] std::string phases() override {
        const std::lock_guard lock(run_->mutex);
        return distributed::describe_phases(distributed::RankStates(run_->states.size()),
                                            run_->states, {});
    }

    std::unique_ptr<Work> all_reduce(at::Tensor& tensor, ReduceOp op,
                                     std::string_view what) override {
        distributed::check_tensor(tensor, "all_reduce");
        return launch("all_reduce", tensor, what, [tensor, op](const std::vector<at::Tensor>& all) {
            tensor.copy_(reduced(all, op));
        });
    }
    std::unique_ptr<Work> broadcast(at::Tensor& tensor, int root, std::string_view what) override {
        distributed::check_tensor(tensor, "broadcast");
        TORCH_CHECK(0 <= root && root < world_size(), "broadcast from rank ", root);
        return launch(
            "broadcast from " + std::to_string(root), tensor, what,
            [tensor, root](const std::vector<at::Tensor>& all) { tensor.copy_(all[root]); });
    }
    std::unique_ptr<Work> all_gather(at::Tensor& output, const at::Tensor& input,
                                     std::string_view what) override {
        distributed::check_gathered(output, input, world_size());
        return launch("all_gather", input, what, [output](const std::vector<at::Tensor>& all) {
            output.copy_(at::stack(all));
        });
    }
    std::unique_ptr<Work> reduce_scatter(at::Tensor& output, const at::Tensor& input, ReduceOp op,
                                         std::string_view what) override {
        distributed::check_gathered(input, output, world_size());
        return launch("reduce_scatter", input, what,
                      [output, op, own = rank()](const std::vector<at::Tensor>& all) {
                          output.copy_(reduced(all, op)[own]);
                      });
    }
    std::unique_ptr<Work> all_to_all(at::Tensor& output, const at::Tensor& input,
                                     std::string_view what) override {
        distributed::check_exchanged(output, input, world_size());
        return launch("all_to_all", input, what,
                      [output, own = rank()](const std::vector<at::Tensor>& all) {
                          output.copy_(at::stack(all).select(1, own));
                      });
    }
    void barrier(std::string_view what) override {
        launch("barrier", at::empty({0}), what, [](const std::vector<at::Tensor>&) {})->wait();
    }
    void meet(std::string_view what) override { barrier(what); }

    std::unique_ptr<Communicator> subgroup(const std::vector<int>& ranks,
                                           std::string_view name) override {
        distributed::check_members(ranks, rank(), world_size());
        distributed::Group part;
        part.name = group_->name + "/" + std::to_string(++num_subgroups_) + std::string(name);
        for (const int member : ranks) {
            part.ranks.push_back(group_->ranks[member]);
            part.name += "," + std::to_string(member);
        }
        return std::make_unique<ThreadCommunicator>(run_, std::move(part), rank_of_run_);
    }

private:
    using Finish = std::function<void(const std::vector<at::Tensor>& inputs)>;

    class ThreadWork : public Work {
    public:
        ThreadWork(ThreadCommunicator& group, distributed::FailedExchange exchange, Finish finish)
            : group_(group), exchange_(std::move(exchange)), finish_(std::move(finish)) {}
        void wait() override {
            if (finish_) {
                const c10::NoGradGuard no_grad;
                std::exchange(finish_, nullptr)(group_.take(exchange_));
            }
        }

    private:
        ThreadCommunicator& group_;
        distributed::FailedExchange exchange_;
        Finish finish_;
    };

    /// In the order of the ranks; 16-bit floats in float32.
    static at::Tensor reduced(const std::vector<at::Tensor>& all, ReduceOp op) {
        const auto wide = [](const at::Tensor& tensor) {
            return tensor.is_floating_point() && tensor.element_size() < 4 ? tensor.to(at::kFloat)
                                                                           : tensor;
        };
        at::Tensor result = wide(all[0]);
        for (std::size_t i = 1; i < all.size(); ++i) {
            result = op == ReduceOp::kMax   ? at::maximum(result, wide(all[i]))
                     : op == ReduceOp::kMin ? at::minimum(result, wide(all[i]))
                                            : result + wide(all[i]);
        }
        TORCH_CHECK(op != ReduceOp::kAverage || result.is_floating_point(),
                    "an average of whole numbers: ", result.scalar_type());
        return op == ReduceOp::kAverage ? result / static_cast<double>(all.size()) : result;
    }

    distributed::RankState& state() { return *run_->states[rank_of_run_]; }

    void throw_failure() const {
        if (run_->failure) {
            throw RunError(*run_->failure);
        }
    }

    std::unique_ptr<Work> launch(const std::string& operation, const at::Tensor& input,
                                 std::string_view what, Finish finish) {
        const std::string form = operation + " of " + c10::str(input.sizes(), input.scalar_type());
        const at::Tensor given = input.detach().clone();
        const std::lock_guard lock(run_->mutex);
        throw_failure();
        state().phase = distributed::first_line(what);
        const std::int64_t index = ++state().groups[group_->name].joined;
        ThreadRun::Exchange& exchange = run_->exchanges[{group_->name, index}];
        TORCH_CHECK(exchange.num_given == 0 || exchange.operation == form, "rank ", rank_of_run_,
                    " joins \"", what, "\" with ", form, " where another has ", exchange.operation);
        exchange.operation = form;
        exchange.inputs.resize(world_size());
        exchange.inputs[rank()] = given;
        ++exchange.num_given;
        run_->changed.notify_all();
        return std::make_unique<ThreadWork>(
            *this,
            distributed::FailedExchange{
                rank_of_run_, group_, std::string(what), index, {}, run_->timeout},
            std::move(finish));
    }

    /// Waits for all inputs of the exchange.
    std::vector<at::Tensor> take(const distributed::FailedExchange& own) {
        std::unique_lock lock(run_->mutex);
        const auto found = run_->exchanges.find({group_->name, own.index});
        ThreadRun::Exchange& exchange = found->second;
        const auto is_complete = [&] { return exchange.num_given == exchange.inputs.size(); };
        run_->changed.wait_for(lock, run_->timeout, [&] {
            return is_complete() || run_->failure || is_left_alone(exchange);
        });
        if (!is_complete()) {
            throw_failure();
            run_->failure = distributed::describe(own, distributed::RankStates(run_->states.size()),
                                                  run_->states);
            run_->changed.notify_all();
            throw_failure();
        }
        std::vector<at::Tensor> inputs = exchange.inputs;
        if (++exchange.num_taken == inputs.size()) {
            run_->exchanges.erase(found);
        }
        return inputs;
    }

    /// Whether a rank that it still waits for has left.
    [[nodiscard]] bool is_left_alone(const ThreadRun::Exchange& exchange) const {
        for (std::size_t i = 0; i < exchange.inputs.size(); ++i) {
            const distributed::RankState& other = *run_->states[group_->ranks[i]];
            const auto here = other.groups.find(group_->name);
            if (!exchange.inputs[i].defined() &&
                (other.left || (here != other.groups.end() && here->second.left))) {
                return true;
            }
        }
        return false;
    }

    std::shared_ptr<ThreadRun> run_;
    std::shared_ptr<const distributed::Group> group_;
    int rank_of_run_;
    int num_subgroups_ = 0;
};

}  // namespace matrix::test
