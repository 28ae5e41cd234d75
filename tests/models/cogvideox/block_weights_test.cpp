#include "matrix/models/block_weights.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <set>
#include <utility>

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

/// Where the tensors were that a model has used.
class Watched : public BlockWeights {
public:
    Watched(std::unique_ptr<BlockWeights> blocks, std::set<const void*>& places)
        : blocks_(std::move(blocks)), places_(places) {}
    std::vector<at::Tensor> adopt(std::vector<at::Tensor> tensors) override {
        return blocks_->adopt(std::move(tensors));
    }
    std::vector<at::Tensor> acquire(std::int64_t block) override {
        std::vector<at::Tensor> tensors = blocks_->acquire(block);
        places_.insert(tensors.at(0).data_ptr());
        return tensors;
    }
    void prefetch(std::int64_t block) override { blocks_->prefetch(block); }

private:
    std::unique_ptr<BlockWeights> blocks_;
    std::set<const void*>& places_;
};

TEST(StreamedBlocks, AreTheModelInRoomForThree) {
    CogVideoXConfig config = random_config();
    config.num_layers = 6;
    CogVideoXTransformer resident = random_model(config);
    for (const nn::Keep keep : {nn::Keep::kInput, nn::Keep::kOffloaded, nn::Keep::kAttention,
                                nn::Keep::kRows, nn::Keep::kProducts, nn::Keep::kGraph}) {
        std::set<const void*> places;
        CogVideoXTransformer model =
            random_model(config, std::make_unique<Watched>(streamed_blocks(), places));
        const auto expected = differentiated(resident, keep);
        for (int step = 0; step < 2; ++step) {  // the second finds what the first has left
            const auto actual = differentiated(model, keep);
            for (const auto& [name, value] : expected) {
                test::expect_equal(actual.at(name), value, name);
            }
        }
        if (keep != nn::Keep::kGraph) {  // a graph holds the weights that it was made with
            EXPECT_EQ(places.size(), 3u);
        }
    }
}

TEST(Fp8Blocks, RoundEachRowToItsLargestValue) {
    const at::Tensor matrix = random_tensor({6, 40}, "matrix") *
                              at::pow(10.0, at::arange(-3, 3, at::kFloat)).unsqueeze(1);
    matrix[4].zero_();
    const at::Tensor bias = random_tensor({6}, "bias");
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        const auto blocks = fp8_blocks();
        const auto stand_ins = blocks->adopt({matrix.to(dtype), bias.to(dtype)});
        EXPECT_EQ(stand_ins[0].sizes(), matrix.sizes());
        const auto restored = blocks->acquire(0);
        ASSERT_EQ(restored[0].scalar_type(), dtype);
        test::expect_equal(restored[1], bias.to(dtype), "bias");
        // Three bits after the leading one; below the smallest normal number, steps of 2^-9. The
        // restored value is rounded once more in bfloat16.
        const at::Tensor exact = matrix.to(dtype).to(at::kFloat);
        const at::Tensor step = exact.abs().amax(1, true) / 448;
        const double rounding = dtype == at::kFloat ? 1e-6 : 0x1p-8;
        const at::Tensor allowed =
            at::max(exact.abs() / 16, step * 0x1p-10) * (1 + rounding) + exact.abs() * rounding;
        EXPECT_TRUE((restored[0].to(at::kFloat) - exact).abs().le(allowed).all().item<bool>());
        EXPECT_FALSE(restored[0].equal(matrix.to(dtype)));
    }
}

TEST(Fp8Blocks, AreHandedOutAsTheyRest) {
    const at::Tensor matrix = random_tensor({6, 40}, "matrix"), bias = random_tensor({6}, "bias");
    const auto blocks = fp8_blocks(Fp8Use::kAtRest), widened = fp8_blocks();
    for (BlockWeights* each : {blocks.get(), widened.get()}) {
        (void)each->adopt({matrix, bias});
    }
    EXPECT_TRUE(widened->scales(0).empty());
    const auto tensors = blocks->acquire(0), scales = blocks->scales(0);
    ASSERT_EQ(tensors[0].scalar_type(), at::kFloat8_e4m3fn);
    ASSERT_EQ(scales.size(), 2u);
    test::expect_equal(tensors[0].to(at::kFloat) * scales[0], widened->acquire(0)[0], "matrix");
    test::expect_equal(tensors[1], bias, "bias");
    EXPECT_FALSE(scales[1].defined());
}

/// Blocks in float8 beside the model in float32.
class Fp8Model : public ::testing::Test {
protected:
    using Values = std::map<std::string, at::Tensor>;

    [[nodiscard]] Values of(std::unique_ptr<BlockWeights> blocks, at::ScalarType dtype = at::kFloat,
                            nn::Keep keep = nn::Keep::kAttention) const {
        CogVideoXTransformer model = random_model(config_, std::move(blocks), dtype);
        return differentiated(model, keep);
    }
    /// How far the prediction is from the model's, over the norm of that.
    [[nodiscard]] double moved(const Values& values) const {
        const at::Tensor difference = values.at("sample") - exact_.at("sample");
        return (difference.norm() / exact_.at("sample").norm()).item<double>();
    }

    const CogVideoXConfig config_ = random_config();
    const Values exact_ = of(resident_blocks());
};

// The figures of docs/performance.md. A tenth: between two steps of float8, last bits decide.
TEST_F(Fp8Model, MovesAsDocumented) {
    struct {
        const char* name;
        std::unique_ptr<BlockWeights> blocks;
        at::ScalarType dtype;
        double documented;
    } cases[] = {{"bfloat16", resident_blocks(), at::kBFloat16, 0.0066},
                 {"at rest", fp8_blocks(), at::kFloat, 0.0179},
                 {"at rest in bfloat16", fp8_blocks(), at::kBFloat16, 0.0208},
                 {"multiplied", fp8_blocks(Fp8Use::kAtRest), at::kFloat, 0.0224},
                 {"multiplied in bfloat16", fp8_blocks(Fp8Use::kAtRest), at::kBFloat16, 0.0256}};
    for (auto& each : cases) {
        EXPECT_NEAR(moved(of(std::move(each.blocks), each.dtype)), each.documented,
                    0.1 * each.documented)
            << each.name;
    }
}

TEST_F(Fp8Model, HasTheSameBitsWhateverIsKept) {
    for (const Fp8Use use : {Fp8Use::kWidened, Fp8Use::kAtRest}) {
        for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
            const Values graph = of(fp8_blocks(use), dtype, nn::Keep::kGraph);
            for (const nn::Keep keep :
                 {nn::Keep::kInput, nn::Keep::kOffloaded, nn::Keep::kAttention, nn::Keep::kRows,
                  nn::Keep::kProducts}) {
                const Values again = of(fp8_blocks(use), dtype, keep);
                for (const auto& [name, value] : graph) {
                    test::expect_equal(again.at(name), value, name);
                }
            }
        }
    }
}

}  // namespace
}  // namespace matrix::models
