#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "distributed/collective_checks.h"
#include "distributed/exchange_checks.h"
#include "matrix/distributed/communicator.h"
#include "support/errors.h"

namespace matrix::distributed {
namespace {

std::unique_ptr<Communicator> single(const std::string& backend = "auto") {
    return make_communicator(Environment(), backend, at::kCPU, std::chrono::seconds(1));
}

TEST(Single, LeavesTensorsAsTheyAre) {
    const auto group = single();
    EXPECT_EQ(group->rank(), 0);
    EXPECT_EQ(group->world_size(), 1);
    EXPECT_EQ(group->local_rank(), 0);
    at::Tensor tensor = at::tensor({1.5F, -0.0F, NAN});
    const at::Tensor before = tensor.clone();
    const void* data = tensor.data_ptr();
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kAverage, ReduceOp::kMax, ReduceOp::kMin}) {
        group->all_reduce(tensor, op, "gradients")->wait();
    }
    group->broadcast(tensor, 0, "parameters")->wait();
    group->barrier("end");
    EXPECT_EQ(tensor.data_ptr(), data);
    EXPECT_TRUE(at::equal(tensor.view(at::kInt), before.view(at::kInt)));
}

TEST(Single, GatherAndScatterCopy) {
    const auto group = single();
    const at::Tensor input = at::arange(6.0).view({2, 3});
    at::Tensor output = at::empty({1, 2, 3});
    group->all_gather(output, input, "gathered")->wait();
    EXPECT_TRUE(at::equal(output[0], input));
    at::Tensor row = at::empty({2, 3});
    group->reduce_scatter(row, output, ReduceOp::kAverage, "scattered")->wait();
    EXPECT_TRUE(at::equal(row, input));
}

TEST(Single, RefusesShapesThatAGroupWouldRefuse) {
    const auto group = single();
    at::Tensor output = at::empty({2, 3});
    EXPECT_THROW((void)group->all_gather(output, at::empty({2, 3}), "x"), c10::Error);
    at::Tensor turned = at::empty({2, 3}).t();
    EXPECT_THROW((void)group->all_reduce(turned, ReduceOp::kSum, "x"), c10::Error);
    EXPECT_THROW((void)group->broadcast(output, 1, "x"), c10::Error);
    EXPECT_THROW((void)group->all_to_all(output, output, "x"), c10::Error);
    for (const std::vector<int>& ranks : std::vector<std::vector<int>>{{}, {1}, {0, 0}, {-1, 0}}) {
        EXPECT_THROW((void)group->subgroup(ranks, "x"), c10::Error);
    }
}

TEST(Single, SaysItsPhase) {
    const auto group = single();
    EXPECT_EQ(group->phases(), "rank 0: joining the group");
    group->subgroup({0}, "part")->set_phase("reading a clip,\nstep 2");
    EXPECT_EQ(group->phases(), "rank 0: reading a clip,");
    EXPECT_EQ(group->subgroup({0}, "part")->phases(), group->phases());
}

TEST(Single, IsAGroupOfOne) {
    const auto group = single();
    EXPECT_EQ(group->device(), at::kCPU);
    test::check_exchanges(*group);
    test::check_collectives(*group);
}

TEST(MakeCommunicator, RefusesABackendThatDoesNotFit) {
    test::expect_error<UsageError>([] { (void)single("mpi"); },
                                   {"parallel.backend is \"mpi\"", "auto, gloo or nccl"});
    test::expect_error<UsageError>([] { (void)single("nccl"); }, {"parallel.backend", "nccl"});
    EXPECT_EQ(single("gloo")->world_size(), 1);
}

}  // namespace
}  // namespace matrix::distributed
