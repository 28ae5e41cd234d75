#include <gtest/gtest.h>

#include <limits>

#include "lora/adapters.h"
#include "matrix/core/files.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::lora {
namespace {

namespace fs = std::filesystem;
using tensor_io::TensorMap;
using testing::values;

constexpr const char* kQ = "transformer_blocks.1.attn1.to_q";

class ForeignAdapters : public ::testing::Test {
protected:
    /// A file with factors under `stem` + `a`, `stem` + `b`.
    TensorMap pair(const std::string& stem, const std::string& a, const std::string& b) const {
        return {{stem + a, a_}, {stem + b, b_}};
    }
    void write(const TensorMap& tensors, const char* name = "a.safetensors") const {
        tensor_io::write_safetensors(directory_ / name, tensors);
    }
    [[nodiscard]] Adapter read() const { return read_adapter(directory_ / "a.safetensors"); }
    void expect_delta(const Adapter& adapter, double scale) const {
        ASSERT_EQ(adapter.deltas.size(), 1u);
        const nn::LowRankDelta& delta = adapter.deltas.at(kQ);
        test::expect_equal(delta.a, a_, "A");
        test::expect_equal(delta.b, b_, "B");
        EXPECT_EQ(delta.scale, scale);
    }
    void refused(const TensorMap& tensors, std::initializer_list<std::string_view> parts) const {
        write(tensors);
        test::expect_error([&] { static_cast<void>(read()); }, parts);
    }

    test::TempDirectory directory_;
    at::Tensor a_ = values("a", {4, 5}), b_ = values("b", {6, 4});
};

TEST_F(ForeignAdapters, TakeTheirStrengthFromAlpha) {
    for (const char* stem :
         {"lora_unet__transformer_blocks_1_attn1_to_q", "lora_unet_transformer_blocks_1_attn1_to_q",
          "lora_unet_blocks_1_q", "diffusion_model.blocks.1.q"}) {
        SCOPED_TRACE(stem);
        TensorMap tensors = pair(stem, ".lora_down.weight", ".lora_up.weight");
        write(tensors);
        expect_delta(read(), 1.0);
        EXPECT_EQ(read().info.alpha, 4.0);
        for (const double alpha : {2.0, 4.0, 8.0, 1.0}) {
            for (const at::Tensor& scalar :
                 {at::full({}, alpha, at::kFloat), at::full({1}, alpha, at::kBFloat16),
                  at::full({}, alpha, at::kLong)}) {
                tensors[std::string(stem) + ".alpha"] = scalar;
                write(tensors);
                expect_delta(read(), alpha / 4);
                EXPECT_EQ(read().info.rank, 4);
                EXPECT_EQ(read().info.alpha, alpha);
            }
        }
    }
}

TEST_F(ForeignAdapters, AlphaIsEachModulesOwn) {
    TensorMap tensors =
        pair("lora_unet__transformer_blocks_1_attn1_to_q", ".lora_down.weight", ".lora_up.weight");
    tensors.merge(
        pair("lora_unet__transformer_blocks_2_attn1_to_q", ".lora_down.weight", ".lora_up.weight"));
    tensors["lora_unet__transformer_blocks_2_attn1_to_q.alpha"] = at::full({}, 1.0, at::kFloat);
    write(tensors);
    EXPECT_EQ(read().deltas.at(kQ).scale, 1.0);
    EXPECT_EQ(read().deltas.at("transformer_blocks.2.attn1.to_q").scale, 0.25);
}

TEST_F(ForeignAdapters, OfOldDiffusersAndComfyuisNewKeys) {
    write(pair("transformer.transformer_blocks.1.attn1.to_q", ".lora.down.weight",
               ".lora.up.weight"));
    expect_delta(read(), 1.0);
    write(pair("diffusion_model.blocks.1.q", ".lora_A.weight", ".lora_B.weight"));
    expect_delta(read(), 1.0);
}

TEST_F(ForeignAdapters, OfPeftWithItsConfiguration) {
    const TensorMap tensors = pair("base_model.model.transformer_blocks.1.attn1.to_q",
                                   ".lora_A.weight", ".lora_B.weight");
    write(tensors, "adapter_model.safetensors");
    const auto config = [&](const std::string& text) {
        write_file_atomically(directory_ / "adapter_config.json", text);
    };
    config(R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8})");
    expect_delta(read_adapter(directory_.path()), 2.0);
    expect_delta(read_adapter(directory_ / "adapter_model.safetensors"), 2.0);
    config(R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true})");
    expect_delta(read_adapter(directory_.path()), 4.0);
    config(R"({"peft_type": "LORA", "r": 8, "lora_alpha": 8, "rank_pattern": {"to_q": 4},
               "alpha_pattern": {"to_q": 1}})");
    expect_delta(read_adapter(directory_.path()), 0.25);

    const auto refused = [&](const char* text, std::initializer_list<std::string_view> parts) {
        SCOPED_TRACE(text);
        config(text);
        test::expect_error([&] { static_cast<void>(read_adapter(directory_.path())); }, parts);
    };
    refused(R"({"r": 3})", {"adapter_model.safetensors", "rank 4 differs", "r = 3"});
    refused(R"({"peft_type": "LOHA", "r": 4})", {"adapter_config.json: peft_type", "LOHA"});
    refused(R"({"r": 4, "bias": "all"})", {"adapter_config.json: bias"});
    refused(R"({"r": 4, "use_dora": true})", {"adapter_config.json: use_dora"});
    refused("[]", {"adapter_config.json", "object"});
    fs::remove(directory_ / "adapter_config.json");
    test::expect_error([&] { static_cast<void>(read_adapter(directory_.path())); },
                       {"adapter_model.safetensors", "adapter_config.json"});
}

TEST_F(ForeignAdapters, MayHoldTheWholeProjection) {
    const at::Tensor weight = values("w", {6, 32, 2, 2}), bias = values("bias", {6});
    TensorMap tensors = pair("diffusion_model.blocks.1.q", ".lora_down.weight", ".lora_up.weight");
    tensors["diffusion_model.patch_embed.proj.set_weight"] = weight;
    tensors["diffusion_model.patch_embed.proj.bias.set_weight"] = bias;
    write(tensors);
    const Adapter adapter = read();
    expect_delta(adapter, 1.0);
    test::expect_equal(adapter.projection_weight, weight, "weight");
    test::expect_equal(adapter.projection_bias, bias, "bias");
    EXPECT_EQ(adapter.info.in_channels, 32);
    tensors.erase("diffusion_model.patch_embed.proj.set_weight");
    refused(tensors, {"bias.set_weight", "is there without the projection's weight"});
}

TEST_F(ForeignAdapters, OfTwoDialectsInOneFileAreRefused) {
    TensorMap tensors =
        pair("lora_unet__transformer_blocks_1_attn1_to_q", ".lora_down.weight", ".lora_up.weight");
    tensors["lora_unet_transformer_blocks_2_attn1_to_q.lora_down.weight"] = a_;
    refused(tensors, {"a.safetensors: lora_unet_transformer_blocks_2_attn1_to_q.lora_down.weight",
                      "double underscore", "one dialect"});
    tensors = pair("diffusion_model.blocks.1.q", ".lora_A.weight", ".lora_B.weight");
    tensors["transformer.x.lora_A.weight"] = a_;
    refused(tensors, {"transformer.x.lora_A.weight", "ComfyUI", "one dialect"});
}

TEST_F(ForeignAdapters, AreCheckedLikeOurs) {
    const std::string stem = "lora_unet__transformer_blocks_1_attn1_to_q";
    TensorMap tensors = pair(stem, ".lora_down.weight", ".lora_up.weight");
    tensors[stem + ".alpha"] = at::full({2}, 1.0, at::kFloat);
    refused(tensors, {stem + ".alpha", "[2]", "one number"});
    tensors[stem + ".alpha"] = at::full({}, std::numeric_limits<double>::infinity(), at::kFloat);
    refused(tensors, {stem + ".alpha", "not finite"});
    tensors[stem + ".alpha"] = at::full({}, 1.0, at::kFloat);
    tensors.erase(stem + ".lora_up.weight");
    refused(tensors, {stem + ".lora_down.weight", "half a pair", stem + ".lora_up.weight"});
    tensors.erase(stem + ".lora_down.weight");
    refused(tensors, {stem + ".alpha", "half a pair"});
    tensors = {{"lora_unet_blocks_1_q.lora_down.weight", a_},
               {"lora_unet_blocks_1_q.lora_up.weight", b_},
               {"lora_unet_transformer_blocks_1_attn1_to_q.lora_up.weight", b_}};
    refused(tensors, {"lora_unet_transformer_blocks_1_attn1_to_q.lora_up.weight", "the same tensor",
                      "lora_unet_blocks_1_q.lora_up.weight"});
}

}  // namespace
}  // namespace matrix::lora
