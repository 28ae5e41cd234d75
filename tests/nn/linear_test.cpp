#include "matrix/nn/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/tensors.h"

namespace matrix::nn {
namespace {

class LinearTest : public testing::Test {
protected:
    LinearTest() {
        at::manual_seed(5);
        linear_.weight = at::randn({4, 6});
        linear_.bias = at::randn({4});
        x_ = at::randn({2, 3, 6});
    }
    [[nodiscard]] static LowRankDelta delta(bool convolution = false) {
        LowRankDelta d{at::randn({2, 6}), at::randn({4, 2}), 0.5};
        if (convolution) {
            d.a = d.a.view({2, 3, 1, 2});
            d.b = d.b.view({4, 2, 1, 1});
        }
        return d;
    }

    Linear linear_;
    at::Tensor x_;
};

TEST_F(LinearTest, AddsItsDelta) {
    linear_.delta = delta();
    const at::Tensor merged = linear_.weight + 0.5 * at::mm(linear_.delta->b, linear_.delta->a);
    test::expect_close(linear_(x_), at::linear(x_, merged, linear_.bias), 1e-5, "y");
}

TEST_F(LinearTest, DeltaWithZeroBChangesNoValue) {
    const at::Tensor before = linear_(x_);
    linear_.delta = delta();
    linear_.delta->b.zero_();
    EXPECT_TRUE(at::equal(linear_(x_), before));
}

TEST_F(LinearTest, ConvolutionIsTheSameMapOverPatches) {
    linear_.delta = delta();
    Linear convolution = linear_;
    convolution.weight = linear_.weight.view({4, 3, 1, 2});
    convolution.delta->a = linear_.delta->a.view({2, 3, 1, 2});
    convolution.delta->b = linear_.delta->b.view({4, 2, 1, 1});
    EXPECT_TRUE(at::equal(convolution(x_), linear_(x_)));
    EXPECT_EQ(convolution.in_features(), 6);
    EXPECT_EQ(convolution.out_features(), 4);
}

// Float32 masters under a bfloat16 activation get float32 gradients.
TEST_F(LinearTest, MastersKeepTheirDtype) {
    linear_.delta = delta();
    std::vector<at::Tensor> masters = {linear_.weight, linear_.bias, linear_.delta->a,
                                       linear_.delta->b};
    for (at::Tensor& master : masters) {
        master.set_requires_grad(true);
    }
    const at::Tensor y = linear_(x_.to(at::kBFloat16));
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    const auto grads = torch::autograd::grad({y.sum()}, masters);
    const auto exact = torch::autograd::grad({linear_(x_).sum()}, masters);
    for (std::size_t i = 0; i < masters.size(); ++i) {
        EXPECT_EQ(grads[i].scalar_type(), at::kFloat);
        test::expect_close(grads[i], exact[i], 3e-2, "gradient " + std::to_string(i));
    }
}

TEST_F(LinearTest, CollectsWhatRequiresAGradient) {
    linear_.delta = delta();
    std::vector<at::Tensor> tensors;
    linear_.collect_trainable(tensors);
    EXPECT_TRUE(tensors.empty());
    linear_.bias.set_requires_grad(true);
    linear_.delta->b.set_requires_grad(true);
    linear_.collect_trainable(tensors);
    ASSERT_EQ(tensors.size(), 2u);
    EXPECT_TRUE(tensors[0].is_same(linear_.bias));
    EXPECT_TRUE(tensors[1].is_same(linear_.delta->b));
}

}  // namespace
}  // namespace matrix::nn
