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

class ActivationBytes : public ::testing::TestWithParam<std::tuple<nn::Keep, bool>> {
protected:
    static constexpr std::int64_t kRank = 16, kTextRows = 16, kTokens = 5 * 16 * 22;

    static void SetUpTestSuite() { use_counting_allocator(); }

    static CogVideoXConfig config(std::int64_t num_layers) {
        CogVideoXConfig config = random_config();
        config.num_layers = num_layers;
        config.attention_head_dim = 32;
        config.max_text_seq_length = kTextRows;
        return config;
    }
    static bool has_lora() { return std::get<bool>(GetParam()); }
    static BlockSizes block() {
        return {kTextRows + kTokens, 128, 4, 4, has_lora() ? 4 * kRank : 0};
    }

    static Measured measure(std::int64_t num_layers, const std::vector<nn::Keep>& keep) {
        CogVideoXTransformer model = random_model(config(num_layers));
        for (const auto& [name, linear] : model.adaptable_linears()) {
            if (linear == &model.input_projection()) {
                linear->weight.set_requires_grad(true);
            } else if (has_lora()) {
                linear->delta = nn::LowRankDelta{
                    random_tensor({kRank, linear->in_features()}, "a").set_requires_grad(true),
                    random_tensor({linear->out_features(), kRank}, "b").set_requires_grad(true),
                    1.0};
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
};

// What lies before the first block and after the last is the same however many there are.
TEST_P(ActivationBytes, OfABlockAreThose) {
    const std::vector<nn::Keep> keep = {std::get<nn::Keep>(GetParam())};
    const Measured few = measure(2, keep), many = measure(5, keep);
    const auto counted = static_cast<double>(kept_bytes(keep[0], block()));
    EXPECT_NEAR(static_cast<double>(many.kept - few.kept) / 3 / counted, 1.0, 0.01);
    // Beside the blocks, the prediction, which stands for its gradient too, as rows and as latents.
    const std::int64_t prediction = kTokens * 64 * 4;
    const auto working = static_cast<double>(many.peak - 2 * prediction) - 5 * counted;
    EXPECT_NEAR(working / static_cast<double>(backward_bytes(keep[0], block())), 1.0, 0.05);
}

INSTANTIATE_TEST_SUITE_P(Ways, ActivationBytes,
                         ::testing::Combine(::testing::Values(nn::Keep::kInput,
                                                              nn::Keep::kAttention, nn::Keep::kRows,
                                                              nn::Keep::kProducts),
                                            ::testing::Bool()));

TEST(KeepWithin, GivesEveryBlockALevelBeforeTheNext) {
    using nn::Keep;
    const BlockSizes block{100, 64, 2, 4, 8};
    std::int64_t kept_before = 0;
    for (std::int64_t budget = 4 * kept_bytes(Keep::kInput, block);
         budget <= 4 * kept_bytes(Keep::kProducts, block); budget += 1000) {
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
    EXPECT_FALSE(keep_within(4, block, 4 * kept_bytes(Keep::kInput, block) - 1));
    EXPECT_TRUE(keep_within(0, block, 0)->keep.empty());  // nothing trains: nothing is kept
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
