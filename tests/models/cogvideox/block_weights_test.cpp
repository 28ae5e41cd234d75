#include "matrix/models/block_weights.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "models/cogvideox/random_model.h"
#include "support/tensors.h"

namespace matrix::models {
namespace {

using namespace testing;

/// What was asked for, in order: blocks acquired, and blocks that will be.
struct Log {
    std::vector<std::vector<at::Tensor>> adopted;
    std::vector<std::int64_t> acquired, prefetched;
};

/// Keeps the tensors to itself; whoever used what stands in for them would compute NaN.
class Hidden : public BlockWeights {
public:
    explicit Hidden(Log& log) : log_(log) {}
    std::vector<at::Tensor> adopt(std::vector<at::Tensor> tensors) override {
        std::vector<at::Tensor> stand_ins;
        for (const at::Tensor& tensor : tensors) {
            stand_ins.push_back(at::full_like(tensor, std::numeric_limits<double>::quiet_NaN()));
        }
        log_.adopted.push_back(std::move(tensors));
        return stand_ins;
    }
    std::vector<at::Tensor> acquire(std::int64_t block) override {
        log_.acquired.push_back(block);
        return log_.adopted.at(static_cast<std::size_t>(block));
    }
    void prefetch(std::int64_t block) override { log_.prefetched.push_back(block); }

private:
    Log& log_;
};

CogVideoXConfig bare_config() {
    CogVideoXConfig config = random_config();
    config.attention_bias = config.norm_elementwise_affine = config.patch_bias = false;
    return config;
}

class BlockWeightsOf : public ::testing::TestWithParam<bool> {
protected:
    [[nodiscard]] static CogVideoXConfig config() {
        return GetParam() ? bare_config() : random_config();
    }
};

TEST_P(BlockWeightsOf, AComputedModelAreThoseAcquired) {
    CogVideoXTransformer resident = random_model(config());
    for (const nn::Keep keep : {nn::Keep::kInput, nn::Keep::kProducts, nn::Keep::kGraph}) {
        const bool twice = keep != nn::Keep::kGraph;
        Log log;
        CogVideoXTransformer model = random_model(config(), std::make_unique<Hidden>(log));
        const auto expected = differentiated(resident, keep), actual = differentiated(model, keep);
        ASSERT_EQ(actual.size(), 26u);
        for (const auto& [name, value] : expected) {
            test::expect_equal(actual.at(name), value, name);
        }
        using Blocks = std::vector<std::int64_t>;
        EXPECT_EQ(log.acquired, twice ? (Blocks{0, 1, 2, 2, 1, 0}) : (Blocks{0, 1, 2}));
        EXPECT_EQ(log.prefetched, twice ? (Blocks{1, 2, 3, 1, 0, -1}) : (Blocks{1, 2, 3}));
    }
}

// Everything of a block but what an adapter may add to: that is all of its weights.
TEST_P(BlockWeightsOf, ABlockAreAllItsParameters) {
    Log log;
    const CogVideoXTransformer model = random_model(config(), std::make_unique<Hidden>(log));
    tensor_io::CountingWeights weights;
    const CogVideoXTransformer counted(config(), weights);
    std::int64_t expected = 0, actual = 0;
    for (const auto& [key, shape] : weights.shapes()) {
        expected += key.starts_with("transformer_blocks.") ? c10::multiply_integers(shape) : 0;
    }
    ASSERT_EQ(log.adopted.size(), 3u);
    for (const auto& block : log.adopted) {
        EXPECT_EQ(block.size(), GetParam() ? 17u : 24u);
        for (const at::Tensor& tensor : block) {
            actual += tensor.numel();
        }
    }
    EXPECT_EQ(actual, expected);
}

INSTANTIATE_TEST_SUITE_P(Configs, BlockWeightsOf, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "bare" : "full"; });

TEST(ResidentBlocks, StayWhereTheyAre) {
    const auto blocks = resident_blocks();
    const at::Tensor tensor = at::ones({2});
    const std::vector<at::Tensor> kept = blocks->adopt({tensor});
    ASSERT_EQ(kept.size(), 1u);
    EXPECT_TRUE(kept[0].is_same(tensor));
    blocks->prefetch(0);
    EXPECT_TRUE(blocks->acquire(0).empty());
}

}  // namespace
}  // namespace matrix::models
