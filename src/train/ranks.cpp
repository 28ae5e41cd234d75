#include "matrix/train/ranks.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <chrono>
#include <numeric>
#include <utility>
#include <vector>

namespace matrix::train {
namespace {

class ReplicaGroup final : public nn::SequenceGroup {
public:
    explicit ReplicaGroup(std::unique_ptr<distributed::Communicator> group)
        : group_(std::move(group)) {}

    [[nodiscard]] int rank() const override { return group_->rank(); }
    [[nodiscard]] int size() const override { return group_->world_size(); }

    [[nodiscard]] at::Tensor all_to_all(const at::Tensor& input) const override {
        const at::NoGradGuard no_grad;
        at::Tensor output = at::empty_like(input);
        group_->all_to_all(output, input, "rows for heads")->wait();
        return output;
    }

    [[nodiscard]] at::Tensor all_gather(const at::Tensor& input) const override {
        const at::NoGradGuard no_grad;
        std::vector<std::int64_t> shape = input.sizes().vec();
        shape.insert(shape.begin(), size());
        at::Tensor output = at::empty(shape, input.options());
        group_->all_gather(output, input, "rows of a replica")->wait();
        return output;
    }

private:
    std::unique_ptr<distributed::Communicator> group_;
};

}  // namespace

Ranks Ranks::single() {
    static const std::unique_ptr<distributed::Communicator> alone =
        distributed::make_communicator({}, "auto", at::kCPU, std::chrono::seconds(1));
    return {*alone};
}

std::unique_ptr<nn::SequenceGroup> make_sequence_group(distributed::Communicator& all,
                                                       std::int64_t context) {
    if (context == 1) {
        return nullptr;
    }
    std::vector<int> ranks(static_cast<std::size_t>(context));
    std::iota(ranks.begin(), ranks.end(), all.rank() / static_cast<int>(context) * context);
    return std::make_unique<ReplicaGroup>(all.subgroup(ranks, "context"));
}

}  // namespace matrix::train
