#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "matrix/distributed/communicator.h"

namespace matrix::test {

/// A group whose averages and gathers, the exchanges of training that run beside it, are noted.
class NotedRanks final : public distributed::Communicator {
public:
    using Work = distributed::Work;
    using ReduceOp = distributed::ReduceOp;

    struct Notes {
        std::vector<std::int64_t> sizes;  ///< elements that this rank gave
        std::vector<std::string> names;
    };
    /// Both must outlive this.
    NotedRanks(distributed::Communicator& ranks, Notes& notes) : ranks_(ranks), notes_(notes) {}

    std::unique_ptr<Work> all_reduce(at::Tensor& tensor, ReduceOp op,
                                     std::string_view what) override {
        note(tensor, what);
        return ranks_.all_reduce(tensor, op, what);
    }
    std::unique_ptr<Work> all_gather(at::Tensor& output, const at::Tensor& input,
                                     std::string_view what) override {
        note(input, what);
        return ranks_.all_gather(output, input, what);
    }
    [[nodiscard]] int rank() const override { return ranks_.rank(); }
    [[nodiscard]] int world_size() const override { return ranks_.world_size(); }
    [[nodiscard]] int local_rank() const override { return ranks_.local_rank(); }
    [[nodiscard]] at::Device device() const override { return ranks_.device(); }
    void set_phase(std::string_view what) override { ranks_.set_phase(what); }
    [[nodiscard]] std::string phases() override { return ranks_.phases(); }
    std::unique_ptr<Work> broadcast(at::Tensor& tensor, int root, std::string_view what) override {
        return ranks_.broadcast(tensor, root, what);
    }
    std::unique_ptr<Work> reduce_scatter(at::Tensor& output, const at::Tensor& input, ReduceOp op,
                                         std::string_view what) override {
        return ranks_.reduce_scatter(output, input, op, what);
    }
    std::unique_ptr<Work> all_to_all(at::Tensor& output, const at::Tensor& input,
                                     std::string_view what) override {
        return ranks_.all_to_all(output, input, what);
    }
    void barrier(std::string_view what) override { ranks_.barrier(what); }
    void meet(std::string_view what) override { ranks_.meet(what); }
    std::unique_ptr<Communicator> subgroup(const std::vector<int>& ranks,
                                           std::string_view name) override {
        return ranks_.subgroup(ranks, name);
    }

private:
    void note(const at::Tensor& tensor, std::string_view what) {
        notes_.sizes.push_back(tensor.numel());
        notes_.names.emplace_back(what);
    }

    distributed::Communicator& ranks_;
    Notes& notes_;
};

}  // namespace matrix::test
