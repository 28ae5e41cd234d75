// One rank of the scenarios in group_test.cpp: distributed_worker SCENARIO. Leaves as `matrix`
// does: a RunError goes to stderr and makes exit code 1.

#include <ATen/ATen.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "matrix/core/error.h"
#include "matrix/distributed/communicator.h"

namespace {

using matrix::RunError;
using matrix::distributed::Communicator;
using matrix::distributed::ReduceOp;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kLong{60};

void want(const at::Tensor& got, const at::Tensor& wanted, const std::string& what) {
    if (got.scalar_type() != wanted.scalar_type() || !at::equal(got, wanted)) {
        std::fprintf(stderr, "%s: other values than wanted\n", what.c_str());
        throw RunError(what);
    }
}

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
    std::vector<std::unique_ptr<matrix::distributed::Work>> works;
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

void one_exchange(Communicator& group, const std::string& what) {
    at::Tensor tensor = at::ones({1000});
    group.all_reduce(tensor, ReduceOp::kSum, what)->wait();
}

void late_steps(Communicator& group, int guilty, const std::function<void()>& fault) {
    one_exchange(group, "gradients, step 1");
    if (group.rank() == guilty) {
        group.set_phase("reading a clip, step 2");
        // Until the others can know it.
        std::this_thread::sleep_for(milliseconds(600));
        fault();
    }
    one_exchange(group, "gradients, step 2");
}

struct Scenario {
    seconds timeout;
    std::function<void(Communicator&)> run;
};

const std::map<std::string, Scenario>& scenarios() {
    static const auto kill_self = [] { ::raise(SIGKILL); };
    static const std::map<std::string, Scenario> all{
        {"operations",
         {seconds(20),
          [](Communicator& group) {
              check_operations(group);
              check_rounding(group);
              check_overlap(group);
          }}},
        {"uneven",
         {seconds(20),
          [](Communicator& group) {
              for (int step = 0; step < 3; ++step) {
                  std::this_thread::sleep_for(milliseconds(60 * ((group.rank() + step) % 4)));
                  one_exchange(group, "gradients");
                  group.barrier("end of the step");
              }
          }}},
        {"leave-early",
         {seconds(20),
          [](Communicator& group) {
              one_exchange(group, "gradients");
              std::this_thread::sleep_for(milliseconds(300 * group.rank()));
          }}},
        {"arrive", {seconds(3), [](Communicator&) {}}},
        {"hang",
         {seconds(3),
          [](Communicator& group) {
              late_steps(group, 1, [] { std::this_thread::sleep_for(kLong); });
          }}},
        {"stopped-host",
         {seconds(3), [](Communicator& group) { late_steps(group, 0, [] { ::raise(SIGSTOP); }); }}},
        {"killed", {seconds(10), [](Communicator& group) { late_steps(group, 2, kill_self); }}},
        {"killed-host",
         {seconds(10), [](Communicator& group) { late_steps(group, 0, kill_self); }}},
        {"fault",
         {seconds(10),
          [](Communicator& group) { late_steps(group, 1, [] { throw RunError("disk full"); }); }}},
    };
    return all;
}

/// Returns when as many ranks have come here as were started.
void wait_at_start_line(int rank) {
    const std::filesystem::path line = std::getenv("START_LINE");
    const long starters = std::stol(std::getenv("STARTERS"));
    std::ofstream(line / std::to_string(rank)).put('1');
    const auto come = [&] {
        return std::distance(std::filesystem::directory_iterator(line),
                             std::filesystem::directory_iterator());
    };
    while (come() < starters) {
        std::this_thread::sleep_for(milliseconds(5));
    }
}

}  // namespace

int main(int, char** arguments) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Scenario& scenario = scenarios().at(arguments[1]);
    try {
        const auto environment = matrix::distributed::read_environment();
        wait_at_start_line(environment.rank);
        const auto group =
            matrix::distributed::make_communicator(environment, "auto", at::kCPU, scenario.timeout);
        scenario.run(*group);
    } catch (const matrix::Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return error.exit_code();
    }
    std::puts("done");
    return 0;
}
