#include "matrix/nn/offload.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "matrix/core/device_memory.h"
#include "matrix/core/error.h"
#include "support/tensors.h"

namespace matrix::nn {
namespace {

std::int64_t live_bytes() {
    return tensor_bytes(at::kCPU).live;
}

class Offload : public testing::Test {
protected:
    static void SetUpTestSuite() { use_counting_allocator(); }

    std::shared_ptr<ActivationOffload> offload_ = make_activation_offload();
};

TEST_F(Offload, GivesBackValuesAndStrides) {
    const at::Tensor plain = at::randn({3, 5}), turned = at::randn({2, 7, 3, 4}).transpose(1, 2),
                     slice = at::randn({4, 9}).narrow(1, 2, 3), one = at::tensor(1.5),
                     none = at::empty({0, 3}), half = at::randn({11}).to(at::kBFloat16);
    const std::vector<at::Tensor> tensors = {plain, turned, slice, one, none, half};
    const auto stored = offload_->store(tensors);
    const std::vector<at::Tensor> back = stored->take();
    ASSERT_EQ(back.size(), tensors.size());
    for (std::size_t i = 0; i < back.size(); ++i) {
        test::expect_equal(back[i], tensors[i], std::to_string(i));
    }
    EXPECT_EQ(back[1].strides(), turned.strides());
    EXPECT_NE(back[0].data_ptr(), plain.data_ptr());
}

TEST_F(Offload, TakesNoMemoryOfTheDeviceMeanwhile) {
    constexpr std::int64_t kBytes = 1000 * 4;
    const std::int64_t before = live_bytes();
    std::vector<at::Tensor> tensors = {at::ones({500}), at::ones({500})};
    ASSERT_EQ(live_bytes(), before + kBytes);
    const auto stored = offload_->store(tensors);
    tensors.clear();
    EXPECT_EQ(live_bytes(), before);
    EXPECT_GE(offload_->host_bytes(), kBytes);
    stored->fetch();
    stored->fetch();
    EXPECT_EQ(live_bytes(), before + kBytes);
    tensors = stored->take();
    EXPECT_EQ(live_bytes(), before + kBytes);
    EXPECT_EQ(tensors[1].sum().item<float>(), 500);
    tensors.clear();
    EXPECT_EQ(live_bytes(), before);
    EXPECT_THROW((void)stored->take(), c10::Error);
}

TEST_F(Offload, UsesTheHostsMemoryAgain) {
    std::int64_t after_first = 0;
    for (int step = 0; step < 3; ++step) {
        const at::Tensor a = at::randn({100, 4}), b = at::randn({99, 4});
        auto first = offload_->store({a}), second = offload_->store({b});
        if (step == 1) {
            first.reset();  // a graph that is dropped
        } else {
            test::expect_equal(first->take()[0], a, "a");
        }
        // What is still there is not written over.
        const auto third = offload_->store({at::zeros({100, 4})});
        test::expect_equal(second->take()[0], b, "b");
        if (step == 0) {
            after_first = offload_->host_bytes();
        }
    }
    EXPECT_EQ(offload_->host_bytes(), after_first);
    EXPECT_LT(after_first, 3 * 1600);
}

TEST_F(Offload, TakesMoreWhereWhatIsFreeIsTooSmall) {
    (void)offload_->store({at::ones({1000})})->take();
    const std::int64_t before = offload_->host_bytes();
    const at::Tensor large = at::randn({100'000});
    test::expect_equal(offload_->store({large})->take()[0], large, "large");
    EXPECT_EQ(offload_->host_bytes(), before + 400'000);
}

TEST_F(Offload, KnowsWhatTheBlockBeforeHasStored) {
    EXPECT_EQ(offload_->end_block().lock(), nullptr);
    auto stored = offload_->store({at::ones({2})});
    EXPECT_EQ(offload_->end_block().lock(), stored);
    EXPECT_EQ(offload_->end_block().lock(), nullptr);
    stored = offload_->store({at::ones({2})});
    stored.reset();
    EXPECT_EQ(offload_->end_block().lock(), nullptr);
}

TEST_F(Offload, OutlivesWhoMadeIt) {
    const auto stored = offload_->store({at::ones({2})});
    offload_.reset();
    EXPECT_EQ(stored->take()[0].sum().item<float>(), 2);
}

}  // namespace
}  // namespace matrix::nn
