#include <gtest/gtest.h>

#include "lora/adapters.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::lora {
namespace {

using testing::applied;
using testing::fixture;
using testing::values;

class SavedByPeft : public ::testing::TestWithParam<const char*> {};

TEST_P(SavedByPeft, IsAppliedAsDiffusersDoes) {
    const std::string name = GetParam();
    const Adapter adapter = read_adapter(fixture(name + ".safetensors"));
    const tensor_io::SafetensorsFile expected(fixture(name + ".applied.safetensors"));
    ASSERT_EQ(adapter.deltas.size(), expected.keys().size());
    for (const auto& [linear, delta] : adapter.deltas) {
        // Both multiply in float64; the reference is stored in float32 (2^-24).
        test::expect_close(applied(delta).reshape(expected.tensor(linear).sizes()),
                           expected.tensor(linear).to(at::kDouble), 6e-8, linear);
        EXPECT_EQ(delta.a.scalar_type(), at::kFloat);
        EXPECT_EQ(delta.b.scalar_type(), at::kFloat);
    }
}

INSTANTIATE_TEST_SUITE_P(Lora, SavedByPeft,
                         ::testing::Values("plain", "rslora", "headless", "projection", "patterns",
                                           "rslora_patterns"),
                         [](const auto& test) { return std::string(test.param); });

TEST(ReadAdapter, DescribesABareFileByItsTensors) {
    const Adapter plain = read_adapter(fixture("plain.safetensors"));
    EXPECT_EQ(plain.info.rank, 3);
    EXPECT_EQ(plain.info.alpha, 6.0);
    EXPECT_EQ(plain.info.in_channels, 0);
    EXPECT_FALSE(plain.info.id_map);
    EXPECT_EQ(plain.deltas.at("transformer_blocks.0.attn1.to_q").scale, 2.0);
    EXPECT_EQ(read_adapter(fixture("projection.safetensors")).info.in_channels, 32);
    const Adapter headless = read_adapter(fixture("headless.safetensors"));
    EXPECT_EQ(headless.info.rank, 3);
    EXPECT_EQ(headless.info.alpha, 3.0);
    EXPECT_EQ(headless.deltas.at("patch_embed.proj").scale, 1.0);
}

TEST(ReadAdapter, TakesMixedRanksWithoutAHeader) {
    const test::TempDirectory directory;
    tensor_io::write_safetensors(directory / "a.safetensors",
                                 {{"transformer.x.lora_A.weight", values("a", {2, 5})},
                                  {"transformer.x.lora_B.weight", values("b", {4, 2})},
                                  {"transformer.y.lora_A.weight", values("c", {3, 5})},
                                  {"transformer.y.lora_B.weight", values("d", {4, 3})}});
    const Adapter adapter = read_adapter(directory / "a.safetensors");
    EXPECT_EQ(adapter.deltas.at("x").scale, 1.0);
    EXPECT_EQ(adapter.deltas.at("y").scale, 1.0);
    EXPECT_EQ(adapter.info.rank, 3);
}

class FloatingDtypes : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(FloatingDtypes, BecomeFloat32) {
    const test::TempDirectory directory;
    const at::Tensor a = values("a", {2, 5}).to(GetParam()), b = values("b", {4, 2}).to(GetParam());
    tensor_io::write_safetensors(directory / "a.safetensors", {{"transformer.x.lora_A.weight", a},
                                                               {"transformer.x.lora_B.weight", b}});
    const Adapter adapter = read_adapter(directory / "a.safetensors");
    test::expect_equal(adapter.deltas.at("x").a, a.to(at::kFloat), "a");
    test::expect_equal(adapter.deltas.at("x").b, b.to(at::kFloat), "b");
}

INSTANTIATE_TEST_SUITE_P(Lora, FloatingDtypes,
                         ::testing::Values(at::kFloat, at::kDouble, at::kHalf, at::kBFloat16,
                                           at::kFloat8_e4m3fn));

TEST(ReadAdapter, ReadsADirectoryThatHoldsTheStockFileAlone) {
    const test::TempDirectory directory;
    std::filesystem::copy(fixture("rslora.safetensors"),
                          directory / "pytorch_lora_weights.safetensors");
    const Adapter adapter = read_adapter(directory.path());
    EXPECT_EQ(adapter.deltas.size(), 4u);
    EXPECT_EQ(adapter.deltas.at("transformer_blocks.1.attn1.to_q").scale, 3.0);  // 6 / sqrt(4)
}

}  // namespace
}  // namespace matrix::lora
