#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "models/cogvideox/reference.h"
#include "support/tensors.h"

namespace matrix::models {
namespace {

using namespace testing;

/// Differentiable in query and key, and shows the log-sum-exp, which carries no gradient.
at::Tensor tap(const nn::TapInput& input) {
    const at::Tensor last = input.query.select(2, input.layout.num_queries() - 1);
    return at::mul(last, input.key.select(2, 0)).sum(-1) *
           input.log_sum_exp.mean(-1);  // [B, heads]
}

class Checkpointing : public ::testing::TestWithParam<at::ScalarType> {
protected:
    Checkpointing() : model_(fixture_model("i2v", GetParam())) {
        for (const auto& [name, leaf] : attach_fixture_lora(model_)) {
            leaves_.push_back(leaf);
        }
        nn::Linear& projection = model_.input_projection();
        projection.weight = projection.weight.to(at::kFloat, false, true).set_requires_grad(true);
        projection.bias = projection.bias.to(at::kFloat, false, true).set_requires_grad(true);
        leaves_.push_back(projection.weight);
        leaves_.push_back(projection.bias);
    }
    [[nodiscard]] Differentiated run(nn::Keep keep, bool taps) const {
        ForwardOptions options;
        options.keep = {keep};
        if (taps) {
            options.taps = {{0, tap}, {1, tap}};
        }
        return differentiate(model_, fixture_case("i2v"), options, leaves_);
    }

    CogVideoXTransformer model_;
    std::vector<at::Tensor> leaves_;
};

TEST_P(Checkpointing, HasTheBitsOfKeepingEverything) {
    for (const auto& [keep, taps] :
         {std::pair(nn::Keep::kInput, true), std::pair(nn::Keep::kOffloaded, true),
          std::pair(nn::Keep::kAttention, false), std::pair(nn::Keep::kAttention, true),
          std::pair(nn::Keep::kRows, true), std::pair(nn::Keep::kProducts, false),
          std::pair(nn::Keep::kProducts, true)}) {
        const Differentiated kept = run(nn::Keep::kGraph, taps), recomputed = run(keep, taps);
        test::expect_equal(recomputed.sample, kept.sample, "sample");
        ASSERT_EQ(recomputed.grads.size(), 12u);
        for (std::size_t i = 0; i < kept.grads.size(); ++i) {
            test::expect_equal(recomputed.grads[i], kept.grads[i], "gradient " + std::to_string(i));
            EXPECT_GT(kept.grads[i].abs().max().item<double>(), 0) << i;
        }
        ASSERT_EQ(kept.tap_outputs.size(), taps ? 2u : 0u);
        for (const auto& [block, output] : kept.tap_outputs) {
            test::expect_equal(recomputed.tap_outputs.at(block), output,
                               "tap of block " + std::to_string(block));
            EXPECT_EQ(output.sizes(), (std::vector<std::int64_t>{1, 2}));
        }
    }
}

// A tap adds to the gradients and to nothing else.
TEST_P(Checkpointing, TapsOnlyWatch) {
    const Differentiated without = run(nn::Keep::kAttention, false),
                         with = run(nn::Keep::kAttention, true);
    test::expect_equal(with.sample, without.sample, "sample");
    EXPECT_FALSE(at::equal(with.grads[0], without.grads[0]));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Checkpointing, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& model) {
                             return model.index == 0 ? "float32" : "bfloat16";
                         });

// Blocks below everything that trains keep nothing: the graph begins where the first leaf is.
TEST(CheckpointingGraph, BeginsAtTheFirstTrainableBlock) {
    CogVideoXTransformer model = fixture_model("i2v");
    int calls = 0;
    ForwardOptions options;
    options.taps[0] = [&](const nn::TapInput& input) {
        ++calls;
        return input.query.sum();
    };
    auto linears = model.adaptable_linears();
    nn::Linear& linear = *linears.at("transformer_blocks.1.attn1.to_q");
    linear.delta =
        nn::LowRankDelta{at::randn({2, 32}).set_requires_grad(true), at::randn({32, 2}), 1.0};
    const BackboneOutput output = model.forward(input_of(fixture_case("i2v")), options);
    EXPECT_TRUE(output.sample.requires_grad());
    EXPECT_FALSE(output.tap_outputs.at(0).requires_grad());
    output.sample.sum().backward();
    EXPECT_TRUE(linear.delta->a.grad().defined());
    EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace matrix::models
