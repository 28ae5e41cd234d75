#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>

#include "matrix/train/ranks.h"

namespace matrix::test {

/// A replica's ranks, whose exchanges are counted: without one, each would run the whole clip.
class CountedGroup final : public nn::SequenceGroup {
public:
    CountedGroup(distributed::Communicator& all, std::int64_t context)
        : group_(train::make_sequence_group(all, context)) {}

    [[nodiscard]] int rank() const override { return group_->rank(); }
    [[nodiscard]] int size() const override { return group_->size(); }
    [[nodiscard]] at::Tensor all_to_all(const at::Tensor& input) const override {
        ++num_exchanges;
        return group_->all_to_all(input);
    }
    [[nodiscard]] at::Tensor all_gather(const at::Tensor& input) const override {
        ++num_exchanges;
        return group_->all_gather(input);
    }

    mutable int num_exchanges = 0;

private:
    std::unique_ptr<nn::SequenceGroup> group_;
};

}  // namespace matrix::test
