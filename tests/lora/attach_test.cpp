#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lora/adapters.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::lora {
namespace {

using ::testing::ElementsAre;
using testing::forward;
using testing::random_delta;
using testing::tiny_input;
using testing::tiny_model;
using testing::values;

LoraConfig tiny_lora(const std::string& projection) {
    LoraConfig config;
    config.rank = 3;
    config.alpha = 6.0;
    config.blocks = {0, 2};
    config.targets = {"to_q", "to_out.0"};
    config.input_projection = projection;
    return config;
}

std::vector<std::string> names(const std::map<std::string, at::Tensor>& tensors) {
    std::vector<std::string> result;
    for (const auto& [name, tensor] : tensors) {
        result.push_back(name);
    }
    return result;
}

class Attach : public ::testing::TestWithParam<bool> {
protected:
    std::unique_ptr<models::CogVideoXTransformer> model() const { return tiny_model(GetParam()); }
};

TEST_P(Attach, FreshDeltasChangeNothing) {
    const auto plain = model(), adapted = model();
    for (const char* projection : {"full", "lora", "frozen"}) {
        attach_new(*adapted, tiny_lora(projection), 1);
        test::expect_equal(forward(*adapted), forward(*plain), projection);
    }
}

TEST_P(Attach, WiderInputsComputeTheSame) {
    const auto plain = model(), wide = model();
    wide->widen_input(48);
    EXPECT_EQ(wide->in_channels(), 48);
    test::expect_equal(forward(*wide), forward(*plain), "48 channels");
    attach_new(*wide, tiny_lora("lora"), 1);
    test::expect_equal(forward(*wide), forward(*plain), "48 channels with deltas");
}

TEST_P(Attach, AddsScaleBAToTheWeights) {
    const auto adapted = model(), merged = model();
    Adapter adapter;
    for (const auto& [name, linear] : merged->adaptable_linears()) {
        if (name == "patch_embed.proj" || name.find("s.1.attn1") != std::string::npos) {
            std::vector<std::int64_t> in = linear->weight.sizes().vec();
            in.erase(in.begin());
            adapter.deltas[name] = random_delta(name, 32, in, 2, 0.05);
            const at::Tensor change =
                testing::applied(adapter.deltas[name]).reshape(linear->weight.sizes());
            linear->weight = (linear->weight.to(at::kDouble) + change).to(at::kFloat);
        }
    }
    ASSERT_EQ(adapter.deltas.size(), 5u);
    const at::Tensor before = forward(*adapted);
    attach(*adapted, adapter, false);
    EXPECT_TRUE(trained_parameters(*adapted).empty());
    EXPECT_GT(test::relative_error(forward(*adapted), before), 0.01);
    // float32 sums in another order, through three blocks.
    test::expect_close(forward(*adapted), forward(*merged), 1e-5, "sample");
}

INSTANTIATE_TEST_SUITE_P(Lora, Attach, ::testing::Bool(), [](const auto& test) {
    return test.param ? "TemporalPatches" : "Patches";
});

TEST(AttachNew, MakesWhatTheConfigNames) {
    const auto model = tiny_model();
    attach_new(*model, tiny_lora("full"), 1);
    const auto parameters = trained_parameters(*model);
    const std::string blocks = "transformer.transformer_blocks.";
    EXPECT_THAT(
        names(parameters),
        ElementsAre(
            "transformer.patch_embed.proj.bias", "transformer.patch_embed.proj.weight",
            blocks + "0.attn1.to_out.0.lora_A.weight", blocks + "0.attn1.to_out.0.lora_B.weight",
            blocks + "0.attn1.to_q.lora_A.weight", blocks + "0.attn1.to_q.lora_B.weight",
            blocks + "2.attn1.to_out.0.lora_A.weight", blocks + "2.attn1.to_out.0.lora_B.weight",
            blocks + "2.attn1.to_q.lora_A.weight", blocks + "2.attn1.to_q.lora_B.weight"));
    const double bound = 1.0 / std::sqrt(32.0);
    for (const auto& [name, tensor] : parameters) {
        EXPECT_TRUE(tensor.is_leaf() && tensor.requires_grad()) << name;
        EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
        if (name.ends_with("lora_A.weight")) {
            EXPECT_EQ(tensor.sizes(), at::IntArrayRef({3, 32})) << name;
            EXPECT_LE(tensor.abs().max().item<double>(), bound) << name;
            // 96 uniform draws: the variance is bound^2 / 3 within 50 % but for one in 10^5.
            EXPECT_NEAR(tensor.square().mean().item<double>(), bound * bound / 3, bound * bound / 6)
                << name;
        } else if (name.ends_with("lora_B.weight")) {
            EXPECT_EQ(tensor.sizes(), at::IntArrayRef({32, 3})) << name;
            EXPECT_EQ(tensor.count_nonzero().item<std::int64_t>(), 0) << name;
        }
    }
    EXPECT_EQ(model->adaptable_linears().at("transformer_blocks.0.attn1.to_q")->delta->scale, 2.0);
}

TEST(AttachNew, DrawsByNameAndSeed) {
    const auto first = tiny_model(), again = tiny_model(), other_seed = tiny_model(),
               fewer = tiny_model();
    LoraConfig config = tiny_lora("lora");
    attach_new(*first, config, 1);
    attach_new(*again, config, 1);
    attach_new(*other_seed, config, 2);
    config.blocks = {2};
    attach_new(*fewer, config, 1);
    const std::string key = "transformer.transformer_blocks.2.attn1.to_q.lora_A.weight";
    const at::Tensor a = trained_parameters(*first).at(key);
    test::expect_equal(trained_parameters(*again).at(key), a, "the same seed");
    test::expect_equal(trained_parameters(*fewer).at(key), a, "fewer blocks");
    EXPECT_FALSE(trained_parameters(*other_seed).at(key).equal(a));
    EXPECT_FALSE(trained_parameters(*first)
                     .at("transformer.transformer_blocks.0.attn1.to_q.lora_A.weight")
                     .equal(a));
    const at::Tensor conv =
        trained_parameters(*first).at("transformer.patch_embed.proj.lora_A.weight");
    EXPECT_EQ(conv.sizes(), at::IntArrayRef({3, 32, 2, 2}));
    EXPECT_LE(conv.abs().max().item<double>(), 1.0 / std::sqrt(128.0));
}

TEST(AttachNew, KeepsFloat32MastersOfABfloat16Model) {
    const auto model = tiny_model();
    for (const auto& [name, linear] : model->adaptable_linears()) {
        linear->weight = linear->weight.to(at::kBFloat16);
        linear->bias = linear->bias.defined() ? linear->bias.to(at::kBFloat16) : linear->bias;
    }
    attach_new(*model, tiny_lora("full"), 1);
    for (const auto& [name, tensor] : trained_parameters(*model)) {
        EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
    }
}

TEST(AttachAdapter, CollectGivesItBack) {
    const auto first = tiny_model(), second = tiny_model();
    first->widen_input(48);
    LoraConfig config = tiny_lora("full");
    attach_new(*first, config, 1);
    for (const auto& [name, tensor] : trained_parameters(*first)) {
        tensor.detach().copy_(values(name, tensor.sizes()) * 0.1);
    }
    AdapterInfo info;
    info.rank = 3;
    info.in_channels = 48;
    info.id_map = true;
    const Adapter adapter = collect(*first, info);
    EXPECT_EQ(adapter.deltas.size(), 4u);
    attach(*second, adapter, true);
    EXPECT_EQ(second->in_channels(), 48);
    test::expect_equal(forward(*second), forward(*first), "sample");
    const auto trained = trained_parameters(*second);
    EXPECT_EQ(names(trained), names(trained_parameters(*first)));
    for (const auto& [name, tensor] : trained) {
        EXPECT_TRUE(tensor.is_leaf()) << name;
        EXPECT_FALSE(tensor.is_alias_of(trained_parameters(*first).at(name))) << name;
    }
}

class AttachFaults : public ::testing::Test {
protected:
    void refused(const Adapter& adapter, std::initializer_list<std::string_view> parts) {
        test::expect_error([&] { attach(*model_, adapter, false); }, parts);
        EXPECT_EQ(model_->in_channels(), channels_);
        test::expect_equal(forward(*model_), before_, "sample after a refusal");
    }
    void refused(const std::string& linear, const nn::LowRankDelta& delta,
                 std::initializer_list<std::string_view> parts) {
        Adapter adapter;
        adapter.deltas["transformer_blocks.1.attn1.to_k"] = random_delta("ok", 32, {32}, 2, 1.0);
        adapter.deltas[linear] = delta;
        refused(adapter, parts);
    }
    void widen() {
        model_->widen_input(48);
        channels_ = 48;
        before_ = forward(*model_);
    }

    std::unique_ptr<models::CogVideoXTransformer> model_ = tiny_model();
    std::int64_t channels_ = 32;
    at::Tensor before_ = forward(*model_);
};

TEST_F(AttachFaults, LinearsThatAreNotThere) {
    for (const char* name :
         {"transformer_blocks.3.attn1.to_q", "transformer_blocks.00.attn1.to_q", "x"}) {
        refused(
            name, random_delta("d", 32, {32}, 2, 1.0),
            {std::string("transformer.") + name + ".lora_A.weight", "no such linear", "3 blocks"});
    }
}

TEST_F(AttachFaults, LinearsThatOtherProgramsTrain) {
    for (const char* name : {"transformer_blocks.0.ff.net.2", "transformer_blocks.0.norm1.linear",
                             "norm_out.linear", "proj_out"}) {
        refused(name, random_delta("d", 32, {32}, 2, 1.0),
                {std::string("a LoRA of ") + name, "does not apply", "to_out.0"});
    }
}

TEST_F(AttachFaults, Shapes) {
    const std::string name = "transformer_blocks.2.attn1.to_q";
    refused(name, random_delta("d", 32, {31}, 2, 1.0), {name + ".lora_A", "[2, 31]", "[2, 32]"});
    refused(name, random_delta("d", 31, {32}, 2, 1.0), {name + ".lora_B", "[31, 2]", "[32, 2]"});
    refused(name, random_delta("d", 32, {8, 2, 2}, 2, 1.0), {name + ".lora_A", "[2, 8, 2, 2]"});
    refused("patch_embed.proj", random_delta("d", 32, {128}, 2, 1.0), {"proj.lora_A", "[2, 128]"});
    for (const std::int64_t channels : {16, 40, 64, 4096}) {
        refused("patch_embed.proj", random_delta("d", 32, {channels, 2, 2}, 2, 1.0),
                {"patch_embed.proj.lora_A", "32 input channels"});
    }
    widen();
    refused("patch_embed.proj", random_delta("d", 32, {32, 2, 2}, 2, 1.0),
            {"patch_embed.proj.lora_A", "[2, 32, 2, 2]", "48 input channels"});
}

TEST_F(AttachFaults, Projections) {
    Adapter adapter;
    adapter.projection_weight = values("w", {32, 32, 2, 2});
    adapter.projection_bias = values("bias", {31});
    refused(adapter, {"patch_embed.proj.bias", "[31]"});
    adapter.projection_bias = at::Tensor();
    adapter.projection_weight = values("w", {31, 48, 2, 2});
    refused(adapter, {"patch_embed.proj.weight", "[31, 48, 2, 2]"});
    adapter.projection_weight = values("w", {32, 32, 2, 2});
    widen();
    refused(adapter, {"patch_embed.proj.weight", "[32, 32, 2, 2]", "48 input channels"});
}

}  // namespace
}  // namespace matrix::lora
