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

/// Part j of rank i's input is 10 i + j.
void check_all_to_all(Communicator& group) {
    const int world = group.world_size();
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kLong}) {
        const at::Tensor numbers = at::arange(world, at::kLong).view({world, 1, 1});
        const at::Tensor ones = at::ones({world, 2, 3}, dtype);
        const at::Tensor input = (ones * (10 * group.rank() + numbers)).to(dtype);
        at::Tensor output = at::empty_like(input);
        group.all_to_all(output, input, "turned")->wait();
        want(output, (ones * (10 * numbers + group.rank())).to(dtype), "all_to_all");
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

/// Those that leave the same remainder by two.
std::vector<int> alike(const Communicator& group) {
    std::vector<int> ranks;
    for (int rank = group.rank() % 2; rank < group.world_size(); rank += 2) {
        ranks.push_back(rank);
    }
    return ranks;
}

/// Exchanges of two groups, which half of the ranks start in the other order.
void check_independence(Communicator& group, Communicator& part) {
    at::Tensor all = at::full({5}, group.rank(), at::kFloat);
    at::Tensor some = all.clone();
    std::unique_ptr<Work> in_part;
    if (group.rank() % 2 == 0) {
        in_part = part.all_reduce(some, ReduceOp::kSum, "of a part");
    }
    const auto in_all = group.all_reduce(all, ReduceOp::kSum, "of all");
    if (!in_part) {
        in_part = part.all_reduce(some, ReduceOp::kSum, "of a part");
    }
    in_all->wait();
    in_part->wait();
    const int world = group.world_size();
    int sum = 0;
    for (const int rank : alike(group)) {
        sum += rank;
    }
    want(all, at::full({5}, world * (world - 1) / 2, at::kFloat), "of all");
    want(some, at::full({5}, sum, at::kFloat), "of a part");
}

void check_every_exchange(Communicator& group) {
    check_operations(group);
    check_all_to_all(group);
    check_rounding(group);
    check_overlap(group);
}

}  // namespace

void want(const at::Tensor& got, const at::Tensor& wanted, const std::string& what) {
    if (got.scalar_type() != wanted.scalar_type() || !at::equal(got, wanted)) {
        throw std::runtime_error(what + ": other values than wanted");
    }
}

void check_exchanges(Communicator& group) {
    check_every_exchange(group);
    // The second time under the same name.
    for (int time = 0; time < 2; ++time) {
        const auto part = group.subgroup(alike(group), "parity");
        if (part->rank() != group.rank() / 2 || part->local_rank() != group.local_rank() ||
            part->world_size() != static_cast<int>(alike(group).size())) {
            throw std::runtime_error("a subgroup's ranks");
        }
        check_independence(group, *part);
        check_every_exchange(*part);
        const auto nested = part->subgroup(alike(*part), "parity");
        check_every_exchange(*nested);
        group.barrier("end of the round");
    }
}

}  // namespace matrix::test
