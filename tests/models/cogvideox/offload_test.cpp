#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "models/cogvideox/random_model.h"
#include "support/tensors.h"

namespace matrix::models {
namespace {

using namespace testing;
using Policy = std::vector<nn::Keep>;
using enum nn::Keep;

/// Differentiable in query and key, and shows the log-sum-exp and the layout.
at::Tensor tap(const nn::TapInput& input) {
    const at::Tensor last = input.query.select(2, input.layout.num_queries() - 1);
    return at::mul(last, input.key.select(2, 0)).sum(-1) * input.log_sum_exp.mean(-1);
}

CogVideoXConfig six_blocks() {
    CogVideoXConfig config = random_config();
    config.num_layers = 6;
    return config;
}

/// Six blocks, two of them with deltas, and taps on one of those and on one above.
class Offloaded : public ::testing::TestWithParam<bool> {
protected:
    Offloaded()
        : model_(random_model(six_blocks(), GetParam() ? streamed_blocks() : resident_blocks())) {
        for (const auto& [name, leaf] : attach_random_lora(model_)) {
            if (name == "patch_embed.proj" || name.find(".1.") != std::string::npos ||
                name.find(".4.") != std::string::npos) {
                leaves_[name] = leaf;
            } else {
                leaf.set_requires_grad(false);
            }
        }
    }

    [[nodiscard]] BackboneOutput forward(const Policy& policy, double scale = 1.0) const {
        BackboneInput input = random_input();
        input.hidden_states = input.hidden_states * scale;
        return model_.forward(input, {{{1, tap}, {3, tap}}, policy, nullptr});
    }
    static void backward(const BackboneOutput& output) {
        std::vector<at::Tensor> roots = {output.sample};
        for (const auto& [block, read] : output.tap_outputs) {
            roots.push_back(read);
        }
        std::vector<at::Tensor> seeds;
        for (const at::Tensor& root : roots) {
            seeds.push_back(random_tensor(root.sizes(), "cotangent"));
        }
        torch::autograd::backward(roots, seeds);
    }
    /// Of what was differentiated since it was asked last.
    [[nodiscard]] std::map<std::string, at::Tensor> gradients() const {
        std::map<std::string, at::Tensor> gradients;
        for (const auto& [name, leaf] : leaves_) {
            gradients[name] = leaf.grad();
            EXPECT_GT(leaf.grad().abs().max().item<double>(), 0) << name;
            const_cast<at::Tensor&>(leaf).mutable_grad().reset();
        }
        return gradients;
    }
    void expect_gradients(const std::map<std::string, at::Tensor>& expected) const {
        const auto actual = gradients();
        ASSERT_EQ(actual.size(), 17u);
        for (const auto& [name, gradient] : expected) {
            test::expect_equal(actual.at(name), gradient, name);
        }
    }

    CogVideoXTransformer model_;
    std::map<std::string, at::Tensor> leaves_;
};

const Policy kPolicies[] = {
    {kOffloaded},
    {kOffloaded, kOffloaded, kOffloaded, kOffloaded, kOffloaded, kAttention},
    {kInput, kInput, kOffloaded, kOffloaded, kAttention, kAttention},
    {kOffloaded, kProducts, kOffloaded, kGraph, kOffloaded, kRows},
};

TEST_P(Offloaded, HasTheBitsOfKeepingEverything) {
    const BackboneOutput whole = forward({kGraph});
    backward(whole);
    const auto expected = gradients();
    for (const Policy& policy : kPolicies) {
        const BackboneOutput output = forward(policy);
        test::expect_equal(output.sample, whole.sample, "sample");
        for (const auto& [block, read] : whole.tap_outputs) {
            test::expect_equal(output.tap_outputs.at(block), read, "tap");
        }
        backward(output);
        expect_gradients(expected);
    }
}

// Micro-batches one after the other; forwards that nobody differentiates, with and without a graph;
// and two graphs at once, differentiated in either order.
TEST_P(Offloaded, StepsDoNotMixWithOthers) {
    for (const double scale : {1.0, 0.5}) {
        backward(forward({kGraph}, scale));
    }
    const auto expected = gradients();
    for (const Policy& policy : kPolicies) {
        backward(forward(policy, 1.0));
        {
            const at::NoGradGuard no_grad;
            (void)forward(policy, 2.0);
        }
        (void)forward(policy, 3.0);
        backward(forward(policy, 0.5));
        expect_gradients(expected);

        const BackboneOutput first = forward(policy, 1.0), second = forward(policy, 0.5);
        backward(first);
        backward(second);
        expect_gradients(expected);
    }
}

INSTANTIATE_TEST_SUITE_P(Bases, Offloaded, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "streamed" : "resident"; });

}  // namespace
}  // namespace matrix::models
