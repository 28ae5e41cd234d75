#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "cuda_emulation/cuda_runtime.h"
#include "kernels/cuda/device.cuh"
#include "kernels/pass/modulation.h"

// The kernels themselves are tested through kernels_test's cases, which this program has too. Here:
// what those cannot see, and that they see kernels at all.

namespace matrix::kernels {
namespace {

class EmulatedCuda : public testing::Environment {
public:
    void TearDown() override {
        EXPECT_GT(cuda_emulation::launches(), 0) << "no case has reached a kernel";
    }
};
[[maybe_unused]] const auto* const environment =
    testing::AddGlobalTestEnvironment(new EmulatedCuda);

struct Sums {
    double* sums;
    int lanes;
};

__global__ void sum_thread_numbers(Sums a) {
    double values[2] = {static_cast<double>(threadIdx.x), 1.0};
    cuda::block_sum(values);
    a.sums[3 * threadIdx.x] = values[0];
    a.sums[3 * threadIdx.x + 1] = values[1];
    a.sums[3 * threadIdx.x + 2] = cuda::lanes_sum(static_cast<float>(threadIdx.x), a.lanes);
}

TEST(BlockSum, IsThatOfAllThreadsInEach) {
    for (const int threads : {32, 96, 256}) {
        std::vector<double> sums(static_cast<std::size_t>(3 * threads), -1);
        cuda::start(sum_thread_numbers, 2, threads, nullptr, Sums{sums.data(), 4});
        for (int i = 0; i < threads; ++i) {
            const auto* const own = sums.data() + 3 * i;
            EXPECT_EQ(own[0], threads * (threads - 1) / 2.0);
            EXPECT_EQ(own[1], threads);
            EXPECT_EQ(own[2], i / 4 * 16 + 6) << "of four lanes";
        }
    }
}

struct Nothing {};

__global__ void half_a_warp_waits(Nothing) {
    if (threadIdx.x < 16) {
        __syncthreads();
    }
}

TEST(Emulation, RefusesThreadsThatWaitInVainAndBlocksThatAreTooLarge) {
    EXPECT_THROW(cuda::start(half_a_warp_waits, 1, 32, nullptr, Nothing()), std::logic_error);
    EXPECT_THROW(cuda::start(half_a_warp_waits, 1, 2048, nullptr, Nothing()), std::runtime_error);
    EXPECT_THROW(cuda::start(half_a_warp_waits, std::int64_t{1} << 31, 32, nullptr, Nothing()),
                 std::runtime_error);
}

TEST(ThreadsFor, AreWholeWarpsInEqualTurns) {
    EXPECT_EQ(cuda::threads_for(0), 32);
    EXPECT_EQ(cuda::threads_for(1), 32);
    EXPECT_EQ(cuda::threads_for(33), 64);
    EXPECT_EQ(cuda::threads_for(256), 256);
    EXPECT_EQ(cuda::threads_for(384), 192);
    EXPECT_EQ(cuda::threads_for(768), 256);
}

TEST(Launch, DoesNothingWithoutRows) {
    const auto before = cuda_emulation::launches();
    pass::launch(pass::AddGated<float>{nullptr, nullptr, nullptr, nullptr, {0, 0, 8}}, 0, nullptr);
    EXPECT_EQ(cuda_emulation::launches(), before);
}

// Rows of a whole number of 16 bytes that do not begin at one.
TEST(Launch, TakesRowsThatLieAnywhere) {
    constexpr int kWidth = 8;
    std::vector<float> y(kWidth + 1, 3), gate(2 * kWidth, 2), out(kWidth + 1, 0);
    pass::launch(
        pass::AddGated<float>{nullptr, y.data() + 1, gate.data(), out.data() + 1, {1, 0, kWidth}},
        1, nullptr);
    EXPECT_EQ(out.front(), 0);
    EXPECT_EQ(std::vector<float>(out.begin() + 1, out.end()), std::vector<float>(kWidth, 6));
}

}  // namespace
}  // namespace matrix::kernels
