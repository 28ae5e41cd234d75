#include "matrix/models/activation_bytes.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "matrix/core/device_memory.h"
#include "models/cogvideox/random_model.h"

namespace matrix::models {
namespace {

using namespace testing;

const c10::Device kCpu(c10::DeviceType::CPU);

/// Live bytes of tensors after a forward and at most in its backward, less those before.
struct Measured {
    std::int64_t kept = 0, peak = 0;
};

constexpr std::int64_t kRank = 16, kTextRows = 16, kTokens = 5 * 16 * 22;

CogVideoXConfig config_of(std::int64_t num_layers) {
    CogVideoXConfig config = random_config();
    config.num_layers = num_layers;
    config.attention_head_dim = 32;
    config.max_text_seq_length = kTextRows;
    return config;
}

BlockSizes sizes(bool has_lora) {
    return {kTextRows + kTokens, 128, 4, 4, has_lora ? 4 * kRank : 0};
}

Measured measure(std::int64_t num_layers, const std::vector<nn::Keep>& keep, bool has_lora) {
    CogVideoXTransformer model = random_model(config_of(num_layers));
    for (const auto& [name, linear] : model.adaptable_linears()) {
        if (linear == &model.input_projection()) {
            linear->weight.set_requires_grad(true);
        } else if (has_lora) {
            linear->delta = nn::LowRankDelta{
                random_tensor({kRank, linear->in_features()}, "a").set_requires_grad(true),
                random_tensor({linear->out_features(), kRank}, "b").set_requires_grad(true), 1.0};
        }
    }
    const BackboneInput input{random_tensor({1, 5, 16, 32, 44}, "x"),
                              random_tensor({1, kTextRows, 10}, "text"),
                              at::full({1}, 500, at::kLong)};
    ForwardOptions options;
    options.keep = keep;
    const std::int64_t before = tensor_bytes(kCpu).live;
    const BackboneOutput output = model.forward(input, options);
    const std::int64_t after = tensor_bytes(kCpu).live;
    reset_peak(kCpu);
    torch::autograd::backward({output.sample}, {output.sample});
    return {after - before, tensor_bytes(kCpu).peak - before};
}

class ActivationBytes : public ::testing::TestWithParam<std::tuple<nn::Keep, bool>> {
protected:
    static void SetUpTestSuite() { use_counting_allocator(); }
    static bool has_lora() { return std::get<bool>(GetParam()); }
    static BlockSizes block() { return sizes(has_lora()); }
};

// What lies before the first block and after the last is the same however many there are.
TEST_P(ActivationBytes, OfABlockAreThose) {
    const std::vector<nn::Keep> keep = {std::get<nn::Keep>(GetParam())};
    const Measured few = measure(2, keep, has_lora()), many = measure(5, keep, has_lora());
    const auto counted = static_cast<double>(kept_bytes(keep[0], block()));
    const auto in_all = counted + static_cast<double>(offloaded_bytes(keep[0], block()));
    EXPECT_NEAR(static_cast<double>(many.kept - few.kept) / 3, counted, 0.01 * in_all);
    // Beside the blocks, the prediction, which stands for its gradient too, as rows and as latents.
    const std::int64_t prediction = kTokens * 64 * 4;
    const auto working = static_cast<double>(many.peak - 2 * prediction) - 5 * counted;
    // What was offloaded of the block before comes back meanwhile.
    const std::int64_t expected =
        backward_bytes(keep[0], block()) + offloaded_bytes(keep[0], block());
    EXPECT_NEAR(working / static_cast<double>(expected), 1.0, 0.05);
}

INSTANTIATE_TEST_SUITE_P(Ways, ActivationBytes,
                         ::testing::Combine(::testing::Values(nn::Keep::kInput,
                                                              nn::Keep::kOffloaded,
                                                              nn::Keep::kAttention, nn::Keep::kRows,
                                                              nn::Keep::kProducts),
                                            ::testing::Bool()));

// A plan for blocks of which some are offloaded is what a step takes.
TEST(ActivationBytesOfAPlan, AreThose) {
    using enum nn::Keep;
    use_counting_allocator();
    const std::vector<nn::Keep> policy = {kOffloaded, kOffloaded, kOffloaded, kAttention,
                                          kAttention};
    const Measured all = measure(5, std::vector(5, kAttention), true),
                   some = measure(5, policy, true);
    const Activations planned = Activations::of(policy, sizes(true)),
                      resident = Activations::of(std::vector(5, kAttention), sizes(true));
    const auto saved = [](std::int64_t less, std::int64_t more) {
        return static_cast<double>(more - less);
    };
    EXPECT_NEAR(saved(some.kept, all.kept) / saved(planned.kept, resident.kept), 1.0, 0.01);
    EXPECT_NEAR(saved(some.peak, all.peak) / saved(planned.peak, resident.peak), 1.0, 0.05);
    EXPECT_EQ(planned.offloaded, resident.kept - planned.kept);
}

TEST(KeepWithin, GivesEveryBlockALevelBeforeTheNext) {
    using nn::Keep;
    const BlockSizes block{100, 64, 2, 4, 8};
    std::int64_t kept_before = 0;
    const std::int64_t least =
        3 * kept_bytes(Keep::kOffloaded, block) + kept_bytes(Keep::kAttention, block);
    for (std::int64_t budget = least; budget <= 4 * kept_bytes(Keep::kProducts, block);
         budget += 1000) {
        const Activations found = keep_within(4, block, budget).value();
        ASSERT_EQ(found.keep.size(), 4u);
        EXPECT_LE(found.kept, budget);
        EXPECT_GE(found.kept, kept_before);
        EXPECT_TRUE(std::is_sorted(found.keep.begin(), found.keep.end()));
        const int spread =
            static_cast<int>(found.keep.back()) - static_cast<int>(found.keep.front());
        EXPECT_LE(spread, 1);
        kept_before = found.kept;
    }
    EXPECT_GT(keep_within(4, block, 4 * kept_bytes(Keep::kProducts, block))->keep.front(),
              Keep::kRows);
    EXPECT_FALSE(keep_within(4, block, least - 1));
    EXPECT_TRUE(keep_within(0, block, 0)->keep.empty());  // nothing trains: nothing is kept
}

// Nothing is offloaded where it fits, no attention runs twice where offloading makes it fit, and
// the first blocks, whose backward is the farthest away, are the first to go.
TEST(KeepWithin, OffloadsAsFewBlocksAsItMust) {
    using enum nn::Keep;
    const BlockSizes block{100, 64, 2, 4, 8};
    const std::int64_t whole = 5 * kept_bytes(kAttention, block);
    const Activations fits = keep_within(5, block, whole).value();
    EXPECT_EQ(fits.keep, std::vector(5, kAttention));
    EXPECT_EQ(fits.offloaded, 0);
    const Activations two = keep_within(5, block, whole - 2 * block.unit() - 1).value();
    EXPECT_EQ(two.keep, (std::vector{kOffloaded, kOffloaded, kAttention, kAttention, kAttention}));
    EXPECT_EQ(two.offloaded, 4 * block.unit());
    const Activations most = keep_within(5, block, whole - 8 * block.unit()).value();
    EXPECT_EQ(most.keep, every_block(kOffloaded, 5));
    EXPECT_EQ(most.keep.back(), kAttention);
    // One that runs and one that comes back are more than the inputs of two blocks.
    const std::int64_t inputs = 2 * kept_bytes(kInput, block);
    EXPECT_EQ(keep_within(2, block, inputs).value().keep, std::vector(2, kInput));
}

// What the last block keeps takes the room of what its backward would make again.
TEST(RaiseLast, TakesTheHighestLevelThatFits) {
    using enum nn::Keep;
    const BlockSizes block{100, 64, 2, 4, 8};
    const Activations all = Activations::of(std::vector(4, kAttention), block);
    const Activations raised = raise_last(all, block, all.peak, all.peak);
    EXPECT_EQ(raised.keep, (std::vector{kAttention, kAttention, kAttention, kProducts}));
    EXPECT_LE(raised.peak, all.peak);
    const std::int64_t products = raised.kept;
    EXPECT_EQ(raise_last(all, block, products - 1, all.peak).keep.back(), kRows);
    EXPECT_EQ(raise_last(all, block, products, raised.peak - 1).keep.back(), kAttention);
    EXPECT_EQ(raise_last(all, block, all.kept, all.peak).keep, all.keep);
    EXPECT_TRUE(raise_last(keep_within(0, block, 0).value(), block, 0, 0).keep.empty());
    for (const std::int64_t blocks :
         {1, 2}) {  // no room for more than inputs: nothing is offloaded
        const std::int64_t inputs = blocks * kept_bytes(kInput, block);
        const Activations least = keep_within(blocks, block, inputs).value();
        EXPECT_EQ(raise_last(least, block, inputs, least.peak).keep, least.keep);
        EXPECT_EQ(least.keep.back(), kInput);
    }
}

// The budget of the peak counts the backward's work too.
TEST(KeepWithin, HoldsThePeak) {
    const BlockSizes block{100, 64, 2, 4, 8};
    const Activations all = Activations::of(std::vector<nn::Keep>(4, nn::Keep::kProducts), block);
    EXPECT_EQ(all.kept, 4 * kept_bytes(nn::Keep::kProducts, block));
    EXPECT_EQ(all.peak, all.kept + backward_bytes(nn::Keep::kProducts, block));
    const Activations less = keep_within(4, block, all.kept, all.peak - 1).value();
    EXPECT_LE(less.peak, all.peak - 1);
    EXPECT_LT(less.kept, all.kept);
}

}  // namespace
}  // namespace matrix::models
