// Empty in a program that is built without MATRIX_WITH_CUDA.

#ifdef MATRIX_WITH_CUDA

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "distributed/nccl_communicator.h"

namespace matrix::distributed {
namespace {

// NCCL takes no two ranks on one GPU: what several do is tested over Gloo.
TEST(Nccl, OneRankExchangesWithItselfAndLeaves) {
    if (!at::globalContext().hasCUDA()) {
        GTEST_SKIP() << "no GPU";
    }
    Environment environment;
    environment.master_port = 29533;
    const at::Device gpu(at::kCUDA, 0);
    const auto group = make_nccl_communicator(environment, gpu, std::chrono::seconds(60));
    at::Tensor sum = at::arange(5, at::TensorOptions(at::kFloat).device(gpu));
    group->all_reduce(sum, ReduceOp::kAverage, "a sum")->wait();
    at::Tensor sent = sum.to(at::kBFloat16);
    group->broadcast(sent, 0, "a tensor")->wait();
    at::Tensor gathered = at::empty({1, 5}, sum.options());
    group->all_gather(gathered, sum, "all")->wait();
    group->barrier("the end");
    EXPECT_TRUE(at::equal(gathered[0].cpu(), at::arange(5, at::kFloat)));
    EXPECT_TRUE(at::equal(sent.cpu().to(at::kFloat), at::arange(5, at::kFloat)));
}

}  // namespace
}  // namespace matrix::distributed

#endif
