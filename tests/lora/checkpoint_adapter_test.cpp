#include <gtest/gtest.h>

#include "lora/adapters.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::lora {
namespace {

using tensor_io::Metadata;
using tensor_io::TensorMap;
using testing::values;

AdapterInfo some_info() {
    AdapterInfo info;
    info.rank = 4;
    info.alpha = 0.1;
    info.rslora = true;
    info.base = "models/\"ü\"";
    info.in_channels = 48;
    info.id_map = true;
    return info;
}

TensorMap some_tensors() {
    return {{"transformer.transformer_blocks.7.attn1.to_q.lora_A.weight", values("a", {4, 6})},
            {"transformer.transformer_blocks.7.attn1.to_q.lora_B.weight", values("b", {6, 4})},
            {"transformer.patch_embed.proj.weight", values("w", {6, 48, 2, 2}).to(at::kBFloat16)},
            {"transformer.patch_embed.proj.bias", values("bias", {6})},
            {"heads.grounding.weight", values("h", {2, 3})}};
}

const Metadata kHeader = {{"format_version", "1"}, {"r", "4"},   {"alpha", "8"},
                          {"rslora", "false"},     {"base", ""}, {"in_channels", "48"},
                          {"id_map", "true"}};

TEST(CheckpointAdapter, RoundTrips) {
    const test::TempDirectory directory;
    const TensorMap tensors = some_tensors();
    write_checkpoint_adapter(directory / "adapter.safetensors", tensors, some_info());

    const tensor_io::SafetensorsFile file(directory / "adapter.safetensors");
    EXPECT_EQ(file.keys().size(), tensors.size());
    for (const auto& [name, tensor] : tensors) {
        test::expect_equal(file.tensor(name), tensor.to(at::kFloat), name);
    }
    for (const auto& path : {directory.path(), directory / "adapter.safetensors"}) {
        const Adapter adapter = read_adapter(path);
        EXPECT_EQ(adapter.info.rank, 4);
        EXPECT_EQ(adapter.info.alpha, 0.1);
        EXPECT_TRUE(adapter.info.rslora);
        EXPECT_EQ(adapter.info.base, "models/\"ü\"");
        EXPECT_EQ(adapter.info.in_channels, 48);
        EXPECT_TRUE(adapter.info.id_map);
        ASSERT_EQ(adapter.deltas.size(), 1u);
        const nn::LowRankDelta& delta = adapter.deltas.at("transformer_blocks.7.attn1.to_q");
        EXPECT_EQ(delta.scale, 0.05);  // 0.1 / sqrt(4)
        test::expect_equal(delta.a, values("a", {4, 6}), "a");
        test::expect_equal(delta.b, values("b", {6, 4}), "b");
        test::expect_equal(adapter.projection_weight,
                           tensors.at("transformer.patch_embed.proj.weight").to(at::kFloat), "w");
        test::expect_equal(adapter.projection_bias, values("bias", {6}), "bias");
    }
}

TEST(CheckpointAdapter, RefusesADamagedHeader) {
    const test::TempDirectory directory;
    const auto refused = [&](const std::string& entry, const char* value, std::string_view part) {
        SCOPED_TRACE(entry + " = " + (value == nullptr ? "(missing)" : value));
        Metadata header = kHeader;
        if (value == nullptr) {
            header.erase(entry);
        } else {
            header[entry] = value;
        }
        tensor_io::write_safetensors(directory / "adapter.safetensors", some_tensors(), header);
        test::expect_error([&] { static_cast<void>(read_adapter(directory.path())); },
                           {"adapter.safetensors: ", entry, part});
    };
    tensor_io::write_safetensors(directory / "adapter.safetensors", some_tensors(), kHeader);
    EXPECT_EQ(read_adapter(directory.path()).deltas.begin()->second.scale, 2.0);
    for (const auto& [entry, value] : kHeader) {
        refused(entry, nullptr, "is missing");
    }
    refused("format_version", "2", "is not 1");
    for (const char* value : {"", "four", "4.5", "-4", "4 ", "99999999999999999999"}) {
        refused("r", value, "not a number");
    }
    for (const char* value : {"", "-1", "nan", "inf", "8x"}) {
        refused("alpha", value, "not a number");
    }
    refused("rslora", "yes", "neither true nor false");
    refused("id_map", "1", "neither true nor false");
}

TEST(CheckpointAdapter, RefusesTensorsThatTheHeaderDoesNotDescribe) {
    const test::TempDirectory directory;
    const auto refused = [&](TensorMap tensors, std::initializer_list<std::string_view> parts) {
        tensor_io::write_safetensors(directory / "adapter.safetensors", tensors, kHeader);
        test::expect_error([&] { static_cast<void>(read_adapter(directory.path())); }, parts);
    };
    const std::string a = "transformer.transformer_blocks.7.attn1.to_q.lora_A.weight";
    const std::string b = "transformer.transformer_blocks.7.attn1.to_q.lora_B.weight";
    refused({{a, values("a", {3, 6})}, {b, values("b", {6, 3})}},
            {a, "rank 3 differs from the header's r = 4"});
    refused({{"heads.grounding.weight", values("h", {2, 3})}}, {"no tensors of an adapter"});
    refused({{"transformer.norm_out.weight", values("h", {2, 3})}},
            {"transformer.norm_out.weight", "not a LoRA tensor"});
    refused({{"transformer.patch_embed.proj.bias", values("h", {2})}},
            {"patch_embed.proj.bias", "without"});
    refused({{"transformer.patch_embed.proj.weight", values("w", {6, 48, 2, 2})},
             {"transformer.patch_embed.proj.bias", values("h", {5})}},
            {"patch_embed.proj.bias", "[5]", "[6]"});
}

}  // namespace
}  // namespace matrix::lora
