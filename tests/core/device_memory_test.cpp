#include "matrix/core/device_memory.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <thread>
#include <vector>

namespace matrix {
namespace {

const c10::Device kCpu(c10::DeviceType::CPU);

at::Tensor floats(std::int64_t count) {
    return at::empty({count}, at::kFloat);
}

class DeviceMemory : public testing::Test {
protected:
    static void SetUpTestSuite() { use_counting_allocator(); }
    DeviceMemory() { release_cached_memory(); }
};

TEST_F(DeviceMemory, CountsWhatTensorsAskFor) {
    const std::int64_t before = tensor_bytes(kCpu).live;
    reset_peak(kCpu);
    for (const std::int64_t count : {1, 1000, 300'000, 10'000'000}) {
        const at::Tensor tensor = floats(count);
        EXPECT_EQ(tensor_bytes(kCpu).live - before, 4 * count);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data_ptr()) % 64, 0);
    }
    EXPECT_EQ(tensor_bytes(kCpu).live, before);
    EXPECT_EQ(tensor_bytes(kCpu).peak - before, 40'000'000);
    reset_peak(kCpu);
    EXPECT_EQ(tensor_bytes(kCpu).peak, before);
}

TEST_F(DeviceMemory, MemoryIsUsedAgainAndStaysWhole) {
    const void* first = nullptr;
    {
        const at::Tensor tensor = floats(8'000'000);
        first = tensor.data_ptr();
        tensor.fill_(1);
    }
    const at::Tensor again = floats(7'900'000);  // a little smaller: the same block
    EXPECT_EQ(again.data_ptr(), first);
    const at::Tensor other = floats(8'000'000);
    EXPECT_NE(other.data_ptr(), first);
    again.fill_(2);
    other.fill_(3);
    EXPECT_TRUE(again.eq(2).all().item<bool>());
    EXPECT_TRUE(other.eq(3).all().item<bool>());
}

TEST_F(DeviceMemory, AResizedTensorKeepsItsValues) {
    at::Tensor tensor = at::arange(400'000, at::kFloat);
    tensor.resize_({5'000'000});
    EXPECT_TRUE(tensor.narrow(0, 0, 400'000).equal(at::arange(400'000, at::kFloat)));
}

TEST_F(DeviceMemory, NothingCanBeGivenBack) {
    c10::Allocator* allocator = c10::GetAllocator(c10::DeviceType::CPU);
    const std::int64_t before = tensor_bytes(kCpu).live;
    allocator->raw_deallocate(allocator->raw_allocate(0));
    EXPECT_EQ(tensor_bytes(kCpu).live, before);
}

TEST_F(DeviceMemory, ManyThreadsShareIt) {
    const std::int64_t before = tensor_bytes(kCpu).live;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([t] {
            for (int i = 0; i < 200; ++i) {
                const at::Tensor tensor = floats(300'000 + 1000 * ((7 * i + t) % 13));
                tensor.fill_(t);
                ASSERT_TRUE(tensor.eq(t).all().item<bool>());
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(tensor_bytes(kCpu).live, before);
}

TEST_F(DeviceMemory, WhatCannotBeHadIsOutOfMemory) {
    const std::int64_t before = tensor_bytes(kCpu).live;
    EXPECT_THROW(floats(std::int64_t{1} << 50), c10::OutOfMemoryError);
    EXPECT_EQ(tensor_bytes(kCpu).live, before);
}

}  // namespace
}  // namespace matrix
