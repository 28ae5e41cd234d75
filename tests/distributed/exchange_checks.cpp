#include "distributed/exchange_checks.h"

#include <ATen/ATen.h>

#include <memory>
#include <stdexcept>
#include <vector>

namespace matrix::test {
namespace {

using distributed::Communicator;
using distributed::ReduceOp;
using distributed::Work;

/// Rank r's values: small whole numbers, of which every sum is exact in bfloat16 too.
at::Tensor values(int rank, at::ScalarType dtype, at::IntArrayRef sizes = {3, 5}) {
    const at::Tensor flat = at::arange(c10::multiply_integers(sizes), at::kFloat);
    return ((flat * (rank + 1) + rank).remainder(7) - 3).view(sizes).to(dtype);
}

at::Tensor reduced(const at::Tensor& stacked, ReduceOp op) {
    switch (op) {
        case ReduceOp::kSum:
            return stacked.sum(0);
        case ReduceOp::kAverage:
            return stacked.sum(0) / stacked.size(0);
        case ReduceOp::kMax:
            return stacked.amax(0);
        case ReduceOp::kMin:
            break;
    }
    return stacked.amin(0);
}

void check_reductions(Communicator& group, at::ScalarType dtype) {
    const int world = group.world_size();
    std::vector<at::Tensor> all;
    std::vector<at::Tensor> all_rows;
    for (int rank = 0; rank < world; ++rank) {
        all.push_back(values(rank, at::kFloat));
        all_rows.push_back(values(rank, at::kFloat, {world, 4}));
    }
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kAverage, ReduceOp::kMax, ReduceOp::kMin}) {
        at::Tensor tensor = values(group.rank(), dtype);
        group.all_reduce(tensor, op, "reduction")->wait();
        want(tensor, reduced(at::stack(all), op).to(dtype), "all_reduce");

        const at::Tensor rows = values(group.rank(), dtype, {world, 4});
        const at::Tensor before = rows.clone();
        at::Tensor row = at::empty({4}, rows.options());
        group.reduce_scatter(row, rows, op, "scattered")->wait();
        want(row, reduced(at::stack(all_rows), op)[group.rank()].to(dtype), "reduce_scatter");
        want(rows, before, "reduce_scatter's input");
    }
}

void check_operations(Communicator& group) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        check_reductions(group, dtype);
        std::vector<at::Tensor> all;
        for (int rank = 0; rank < group.world_size(); ++rank) {
            all.push_back(values(rank, dtype));
            at::Tensor tensor = values(group.rank(), dtype);
            group.broadcast(tensor, rank, "spread")->wait();
            want(tensor, all.back(), "broadcast");
        }
        at::Tensor gathered = at::empty({group.world_size(), 3, 5}, dtype);
        group.all_gather(gathered, values(group.rank(), dtype), "gathered")->wait();
        want(gathered, at::stack(all), "all_gather");
    }
}

/// bfloat16 has only even numbers from 256 on: a sum in it would lose every 0.75, of which three
/// make 2.25.
void check_rounding(Communicator& group) {
    at::Tensor tensor = at::full({2}, group.rank() == 0 ? 256.0 : 0.75, at::kBFloat16);
    const double exact = 256.0 + 0.75 * (group.world_size() - 1);
    group.all_reduce(tensor, ReduceOp::kSum, "rounding")->wait();
    want(tensor, at::full({2}, exact, at::kFloat).to(at::kBFloat16), "rounding");
}

/// Several at a time, waited for in another order than they were started in.
void check_overlap(Communicator& group) {
    std::vector<at::Tensor> tensors;
    std::vector<std::unique_ptr<Work>> works;
    for (int i = 0; i < 8; ++i) {
        tensors.push_back(at::full({1000 * (i + 1)}, group.rank() + i, at::kFloat));
        works.push_back(group.all_reduce(tensors.back(), ReduceOp::kAverage, "bucket"));
    }
    for (int i = 7; i >= 0; --i) {
        works[i]->wait();
        works[i]->wait();
        want(tensors[i], at::full_like(tensors[i], i + (group.world_size() - 1) / 2.0), "overlap");
    }
}

}  // namespace

void want(const at::Tensor& got, const at::Tensor& wanted, const std::string& what) {
    if (got.scalar_type() != wanted.scalar_type() || !at::equal(got, wanted)) {
        throw std::runtime_error(what + ": other values than wanted");
    }
}

void check_exchanges(Communicator& group) {
    check_operations(group);
    check_rounding(group);
    check_overlap(group);
}

}  // namespace matrix::test
