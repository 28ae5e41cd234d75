#include "matrix/nn/recompute.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/tensors.h"

namespace matrix::nn {
namespace {

constexpr double kScale = 0.5;

/// A miniature of a block: attention through the memo, a parameter, and a second output.
class Recompute : public testing::Test {
protected:
    Recompute() {
        at::manual_seed(6);
        parameter_.set_requires_grad(true);
        x_.set_requires_grad(true);
    }

    [[nodiscard]] BlockFunction block() const {
        return [this](const std::vector<at::Tensor>& inputs, RecomputeMemo& memo) {
            ++runs_;
            const at::Tensor q = inputs[0] * parameter_;
            const auto result = kernels::attention(q, inputs[0], inputs[1], kScale,
                                                   RecomputeMemo::take(memo.attention));
            if (memo.fills(Keep::kAttention)) {
                memo.attention = result;
            }
            return std::vector<at::Tensor>{at::tanh(result.output) + inputs[0], q.sum({1, 2, 3})};
        };
    }
    [[nodiscard]] std::vector<at::Tensor> keep_everything() const {
        RecomputeMemo memo;
        return block()({x_, value_}, memo);
    }
    [[nodiscard]] std::vector<at::Tensor> recompute() const {
        return recompute_in_backward(block(), {x_, value_}, {parameter_}, Keep::kAttention);
    }
    /// Gradients of x and the parameter.
    [[nodiscard]] std::vector<at::Tensor> differentiate(
        const std::vector<at::Tensor>& roots) const {
        std::vector<at::Tensor> seeds;
        for (const at::Tensor& root : roots) {
            seeds.push_back(at::cos(root.detach()));
        }
        return torch::autograd::grad(roots, {x_, parameter_}, seeds, true, false, true);
    }

    mutable int runs_ = 0;
    at::Tensor x_ = at::randn({2, 2, 5, 8}), value_ = at::randn({2, 2, 5, 8}),
               parameter_ = at::randn({8});
};

TEST_F(Recompute, HasTheBitsOfKeepingEverything) {
    const auto kept = keep_everything(), outputs = recompute();
    ASSERT_EQ(outputs.size(), 2u);
    test::expect_equal(outputs[0], kept[0], "output");
    test::expect_equal(outputs[1], kept[1], "second output");
    const auto expected = differentiate(kept), actual = differentiate(outputs);
    test::expect_equal(actual[0], expected[0], "gradient of x");
    test::expect_equal(actual[1], expected[1], "gradient of the parameter");
    EXPECT_EQ(runs_, 3);
}

TEST_F(Recompute, OneOutputAlone) {
    for (const std::size_t i : {0u, 1u}) {
        const auto expected = differentiate({keep_everything()[i]});
        const auto actual = differentiate({recompute()[i]});
        test::expect_equal(actual[0], expected[0], "gradient of x");
        test::expect_equal(actual[1], expected[1], "gradient of the parameter");
    }
}

TEST_F(Recompute, ConstantsGetNoGradient) {
    const auto outputs =
        recompute_in_backward(block(), {x_.detach(), value_}, {parameter_}, Keep::kInput);
    const auto grads = torch::autograd::grad({outputs[0].sum()}, {parameter_});
    x_.set_requires_grad(false);
    const auto expected = torch::autograd::grad({keep_everything()[0].sum()}, {parameter_});
    test::expect_equal(grads[0], expected[0], "gradient of the parameter");
}

// Without a graph over the first run there is nothing that holds its activations.
TEST_F(Recompute, FirstRunBuildsNoGraph) {
    bool saw_graph = false;
    const BlockFunction probe = [&](const std::vector<at::Tensor>& inputs, RecomputeMemo& memo) {
        const at::Tensor y = inputs[0] * parameter_;
        saw_graph = saw_graph || (!memo.recomputing && y.requires_grad());
        return std::vector<at::Tensor>{y};
    };
    const auto outputs = recompute_in_backward(probe, {x_}, {parameter_}, Keep::kInput);
    EXPECT_FALSE(saw_graph);
    EXPECT_TRUE(outputs[0].requires_grad());
}

TEST_F(Recompute, SecondDifferentiationIsRefused) {
    const auto outputs = recompute();
    (void)differentiate({outputs[0]});
    EXPECT_THROW((void)differentiate({outputs[0]}), c10::Error);
}

TEST_F(Recompute, ParameterThatIsNotListedIsRefused) {
#ifndef MATRIX_CHECK_LEAVES
    GTEST_SKIP() << "the graph is walked in builds other than Release";
#endif
    const auto outputs = recompute_in_backward(block(), {x_, value_}, {}, Keep::kInput);
    EXPECT_THROW((void)torch::autograd::grad({outputs[0].sum()}, {x_}), c10::Error);
}

}  // namespace
}  // namespace matrix::nn
