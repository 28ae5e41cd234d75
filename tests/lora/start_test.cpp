#include "matrix/lora/start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lora/adapters.h"
#include "matrix/lora/merge.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::lora {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::forward;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::random_delta;
using testing::tiny_model;
using testing::values;

constexpr const char* kQ = "transformer_blocks.0.attn1.to_q";
constexpr const char* kOut = "transformer_blocks.2.attn1.to_out.0";
constexpr const char* kProjection = "patch_embed.proj";

LoraConfig config_of(std::int64_t rank, const std::string& projection) {
    LoraConfig config;
    config.rank = rank;
    config.alpha = 3.0;
    config.blocks = {0, 2};
    config.targets = {"to_q", "to_out.0"};
    config.input_projection = projection;
    return config;
}

/// The strength 0.25 is not that of any config here.
Adapter attention_adapter(std::int64_t rank = 4) {
    Adapter adapter;
    adapter.info.rank = rank;
    adapter.deltas[kQ] = random_delta("q", 32, {32}, rank, 0.25);
    adapter.deltas[kOut] = random_delta("out", 32, {32}, rank, 0.25);
    return adapter;
}

nn::LowRankDelta projection_lora(bool temporal_patches, std::int64_t channels) {
    return temporal_patches ? random_delta("p", 32, {channels * 8}, 4, 0.25)
                            : random_delta("p", 32, {channels, 2, 2}, 4, 0.25);
}

class StartFrom : public ::testing::TestWithParam<bool> {
protected:
    [[nodiscard]] static std::unique_ptr<models::CogVideoXTransformer> model(
        std::int64_t channels = 32) {
        auto made = tiny_model(GetParam());
        made->widen_input(channels);
        return made;
    }
    /// The output with the adapter attached as it is, and of a run that starts from it.
    static void expect_same_effect(const Adapter& adapter, const LoraConfig& config,
                                   std::int64_t channels) {
        EXPECT_THAT(check_start(config, channels, adapter, "a"), IsEmpty());
        const auto attached = model(channels), started = model(channels);
        // A projection with fewer channels than the model's is checked column by column instead.
        attach_new(*started, config, 1);
        start_from(*started, config, adapter);
        attach(*attached, adapter, false);
        test::expect_close(forward(*started), forward(*attached), 1e-5, "output");
        EXPECT_GT(test::relative_error(forward(*started), forward(*model(channels))), 1e-3);
    }
};

TEST_P(StartFrom, GivesTheAdaptersEffectAtAnyRankAndStrength) {
    for (const std::int64_t rank : {4, 5, 16}) {
        for (const bool rslora : {false, true}) {
            LoraConfig config = config_of(rank, "frozen");
            config.rslora = rslora;
            expect_same_effect(attention_adapter(), config, 32);
        }
    }
}

TEST_P(StartFrom, LeavesTheFurtherDirectionsAbleToTrain) {
    const auto started = model(), fresh = model();
    const LoraConfig config = config_of(6, "frozen");
    attach_new(*fresh, config, 1);
    attach_new(*started, config, 1);
    const Adapter adapter = attention_adapter();
    start_from(*started, config, adapter);
    const auto linears = started->adaptable_linears(), others = fresh->adaptable_linears();
    const nn::LowRankDelta& delta = *linears.at(kQ)->delta;
    test::expect_equal(delta.a.narrow(0, 0, 4).detach(), adapter.deltas.at(kQ).a, "A");
    test::expect_equal(delta.a.narrow(0, 4, 2).detach(),
                       others.at(kQ)->delta->a.narrow(0, 4, 2).detach(), "random rows");
    EXPECT_EQ(delta.b.narrow(1, 4, 2).count_nonzero().item<std::int64_t>(), 0);
    EXPECT_TRUE(delta.a.requires_grad() && delta.b.requires_grad());
    EXPECT_TRUE(delta.a.is_leaf() && delta.b.is_leaf());
    EXPECT_EQ(delta.scale, config.scale());
    // What the adapter does not have is as in any new run.
    const std::string other = "transformer_blocks.0.attn1.to_out.0";
    test::expect_equal(linears.at(other)->delta->a.detach(), others.at(other)->delta->a.detach(),
                       "A of another linear");
}

TEST_P(StartFrom, LeavesDirectionsFilledWithZerosAbleToTrain) {
    const LoraConfig config = config_of(6, "frozen");
    Adapter adapter = attention_adapter(6);
    nn::LowRankDelta& padded = adapter.deltas.at(kQ);
    padded.a.narrow(0, 3, 2).zero_();
    padded.b.narrow(1, 4, 2).zero_();
    expect_same_effect(adapter, config, 32);
    const auto started = model(), fresh = model();
    attach_new(*fresh, config, 1);
    attach_new(*started, config, 1);
    start_from(*started, config, adapter);
    const auto linears = started->adaptable_linears(), others = fresh->adaptable_linears();
    const nn::LowRankDelta& delta = *linears.at(kQ)->delta;
    test::expect_equal(delta.a.narrow(0, 0, 3).detach(), padded.a.narrow(0, 0, 3), "A");
    test::expect_equal(delta.a.narrow(0, 3, 3).detach(),
                       others.at(kQ)->delta->a.narrow(0, 3, 3).detach(), "random rows");
    EXPECT_EQ(delta.b.narrow(1, 3, 3).count_nonzero().item<std::int64_t>(), 0);
}

TEST_P(StartFrom, TakesAProjectionsLora) {
    for (const char* projection : {"lora", "full"}) {
        for (const std::int64_t channels : {32, 48}) {
            Adapter adapter = attention_adapter();
            adapter.deltas[kProjection] = projection_lora(GetParam(), channels);
            adapter.info.in_channels = channels;
            expect_same_effect(adapter, config_of(4, projection), channels);
        }
    }
    // A LoRA of any rank goes into a projection that trains whole.
    Adapter adapter;
    adapter.deltas[kProjection] = projection_lora(GetParam(), 32);
    EXPECT_THAT(check_start(config_of(2, "full"), 32, adapter, "a"), IsEmpty());
}

TEST_P(StartFrom, TakesAWholeProjection) {
    for (const std::int64_t channels : {32, 48}) {
        Adapter adapter = attention_adapter();
        adapter.info.in_channels = channels;
        adapter.projection_weight =
            GetParam() ? values("w", {32, channels * 8}) : values("w", {32, channels, 2, 2});
        adapter.projection_bias = values("bias", {32});
        expect_same_effect(adapter, config_of(4, "full"), channels);
    }
}

TEST_P(StartFrom, ANarrowerProjectionAddsNothingForTheIdMap) {
    Adapter adapter = attention_adapter();
    adapter.projection_weight =
        GetParam() ? values("w", {32, 32 * 8}) : values("w", {32, 32, 2, 2});
    adapter.info.in_channels = 32;
    const auto started = model(48);
    attach_new(*started, config_of(4, "full"), 1);
    start_from(*started, config_of(4, "full"), adapter);
    const at::Tensor weight = started->input_projection().weight.detach();
    const std::int64_t columns = adapter.projection_weight.size(1);
    test::expect_equal(weight.narrow(1, 0, columns).contiguous(), adapter.projection_weight,
                       "weight");
    EXPECT_EQ(weight.narrow(1, columns, columns / 2).count_nonzero().item<std::int64_t>(), 0);

    Adapter lora;
    lora.deltas[kProjection] = projection_lora(GetParam(), 32);
    const auto other = model(48);
    attach_new(*other, config_of(4, "lora"), 1);
    start_from(*other, config_of(4, "lora"), lora);
    const at::Tensor a = other->input_projection().delta->a.detach();
    EXPECT_EQ(a.narrow(1, columns, columns / 2).count_nonzero().item<std::int64_t>(), 0);
}

TEST_P(StartFrom, RefusesShapesOfAnotherModel) {
    const auto started = model();
    const LoraConfig config = config_of(4, "full");
    attach_new(*started, config, 1);
    Adapter adapter;
    adapter.deltas[kQ] = random_delta("q", 32, {16}, 4, 1.0);
    test::expect_error([&] { start_from(*started, config, adapter); },
                       {"lora.init_from", kQ, "lora_A", "[4, 16]", "[4, 32]"});
    adapter.deltas.clear();
    adapter.projection_weight = values("w", {31, 32, 2, 2});
    test::expect_error([&] { start_from(*started, config, adapter); },
                       {"lora.init_from", "patch_embed.proj.weight", "[31, 32, 2, 2]"});
}

INSTANTIATE_TEST_SUITE_P(Lora, StartFrom, ::testing::Bool());

TEST(CheckStart, NamesFieldAndAdapter) {
    const auto faults = [](const LoraConfig& config, const Adapter& adapter,
                           std::int64_t channels = 32) {
        return check_start(config, channels, adapter, "x/y.safetensors");
    };
    EXPECT_THAT(faults(config_of(3, "frozen"), attention_adapter()),
                ElementsAre(AllOf(HasSubstr("lora.rank: 3"), HasSubstr("rank 4"),
                                  HasSubstr("x/y.safetensors"), HasSubstr("lora.init_from"))));
    LoraConfig config = config_of(4, "frozen");
    config.blocks = {2};
    EXPECT_THAT(faults(config, attention_adapter()),
                ElementsAre(AllOf(HasSubstr("lora.blocks: "), HasSubstr(kQ), HasSubstr("x/y"))));
    config = config_of(4, "frozen");
    config.targets = {"to_q"};
    EXPECT_THAT(faults(config, attention_adapter()),
                ElementsAre(AllOf(HasSubstr("lora.targets: "), HasSubstr(kOut))));
    Adapter feed_forward;
    feed_forward.deltas["transformer_blocks.0.ff.net.2"] = random_delta("f", 32, {128}, 4, 1.0);
    EXPECT_THAT(faults(config_of(4, "frozen"), feed_forward),
                ElementsAre(AllOf(HasSubstr("lora.init_from: x/y"),
                                  HasSubstr("a LoRA of transformer_blocks.0.ff.net.2"))));
    Adapter lora;
    lora.deltas[kProjection] = random_delta("p", 32, {32, 2, 2}, 4, 1.0);
    EXPECT_THAT(
        faults(config_of(4, "frozen"), lora),
        ElementsAre(AllOf(HasSubstr("lora.input_projection: \"frozen\""), HasSubstr("x/y"))));
    Adapter whole;
    whole.projection_weight = values("w", {32, 48, 2, 2});
    whole.info.in_channels = 48;
    EXPECT_THAT(faults(config_of(4, "lora"), whole),
                ElementsAre(HasSubstr("lora.input_projection: \"lora\""),
                            AllOf(HasSubstr("data.id_map"), HasSubstr("48"))));
    EXPECT_THAT(faults(config_of(4, "full"), whole, 48), IsEmpty());
}

class Merged : public ::testing::TestWithParam<bool> {};

TEST_P(Merged, WeightsComputeWhatTheDeltasDo) {
    for (const bool whole : {false, true}) {
        Adapter adapter = attention_adapter();
        if (whole) {
            adapter.projection_weight =
                GetParam() ? values("w", {32, 48 * 8}) : values("w", {32, 48, 2, 2});
            adapter.projection_bias = values("bias", {32});
        } else {
            adapter.deltas[kProjection] = projection_lora(GetParam(), 48);
        }
        const auto attached = tiny_model(GetParam()), plain = tiny_model(GetParam());
        attach(*attached, adapter, false);
        // The same numbers as weights.
        const auto config = testing::tiny_config(GetParam());
        auto wide = config;
        wide.in_channels = 48;
        tensor_io::GeneratedWeights base(
            [](const std::string& key, at::IntArrayRef shape) { return values(key, shape) * 0.1; });
        const models::CogVideoXTransformer unchanged(config, base);
        tensor_io::GeneratedWeights weights([&](const std::string& key, at::IntArrayRef) {
            const at::Tensor& tensor = base.tensors().at(key);
            return changes(adapter, key) ? merged(adapter, key, tensor) : tensor;
        });
        const models::CogVideoXTransformer model(wide, weights);
        test::expect_close(forward(model), forward(*attached), 1e-5, whole ? "whole" : "lora");
        EXPECT_TRUE(changes(adapter, std::string(kQ) + ".weight"));
        EXPECT_FALSE(changes(adapter, std::string(kQ) + ".bias"));
        EXPECT_FALSE(changes(adapter, "transformer_blocks.1.attn1.to_q.weight"));
        EXPECT_EQ(changes(adapter, "patch_embed.proj.bias"), whole);
    }
}

INSTANTIATE_TEST_SUITE_P(Lora, Merged, ::testing::Bool());

}  // namespace
}  // namespace matrix::lora
