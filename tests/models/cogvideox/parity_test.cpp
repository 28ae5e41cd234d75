#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "models/cogvideox/reference.h"
#include "support/tensors.h"

namespace matrix::models {
namespace {

using namespace testing;

// Float32 through two blocks; products add in another order.
constexpr double kForward = 1e-5, kGradient = 1e-4;

struct Named {
    const char* name;
    const char* kind;
};

class Parity : public ::testing::TestWithParam<Named> {};

TEST_P(Parity, ForwardAndGradientsEqualDiffusers) {
    const CogVideoXTransformer model = fixture_model(GetParam().kind);
    const Case expected = fixture_case(GetParam().name);
    const Differentiated actual = differentiate(model, expected, {});
    test::expect_close(actual.sample, expected.at("sample"), kForward, "sample");
    test::expect_close(actual.grads[0], expected.at("grad.hidden_states"), kGradient,
                       "grad.hidden_states");
    test::expect_close(actual.grads[1], expected.at("grad.encoder_hidden_states"), kGradient,
                       "grad.encoder_hidden_states");
}

TEST_P(Parity, WithoutGradientsTheSameBits) {
    const CogVideoXTransformer model = fixture_model(GetParam().kind);
    const Case values = fixture_case(GetParam().name);
    const at::Tensor with = differentiate(model, values, {}).sample;
    const at::NoGradGuard no_grad;
    test::expect_equal(model.forward(input_of(values), {}).sample, with, "sample");
}

TEST_P(Parity, Bfloat16StaysNear) {
    const CogVideoXTransformer model = fixture_model(GetParam().kind, at::kBFloat16);
    const Case expected = fixture_case(GetParam().name);
    const Differentiated actual = differentiate(model, expected, {});
    EXPECT_EQ(actual.sample.scalar_type(), at::kBFloat16);
    // Eight bits of mantissa through two blocks; a wrong operation is off by tens of per cent.
    test::expect_close(actual.sample, expected.at("sample"), 5e-2, "sample");
    test::expect_close(actual.grads[0], expected.at("grad.hidden_states"), 8e-2,
                       "grad.hidden_states");
}

INSTANTIATE_TEST_SUITE_P(Models, Parity,
                         ::testing::Values(Named{"i2v", "i2v"}, Named{"sincos_fallback", "i2v"},
                                           Named{"id_map_batch", "id_map"}, Named{"2b", "2b"},
                                           Named{"1.5", "1.5"}, Named{"bare", "bare"}),
                         [](const auto& model) {
                             std::string name = model.param.name;
                             std::replace(name.begin(), name.end(), '.', '_');
                             return name;
                         });

TEST(LoraParity, GradientsOfFactorsAndProjection) {
    CogVideoXTransformer model = fixture_model("i2v");
    std::map<std::string, at::Tensor> leaves = attach_fixture_lora(model);
    ASSERT_EQ(leaves.size(), 8u);
    nn::Linear& projection = model.input_projection();
    leaves["patch_embed.proj.weight"] = projection.weight =
        projection.weight.clone().set_requires_grad(true);
    leaves["patch_embed.proj.bias"] = projection.bias =
        projection.bias.clone().set_requires_grad(true);
    std::vector<at::Tensor> tensors;
    for (const auto& [name, tensor] : leaves) {
        tensors.push_back(tensor);
    }
    Case values = fixture_case("i2v");
    const Case expected = fixture_case("lora");
    const Differentiated actual = differentiate(model, values, {}, tensors);
    test::expect_close(actual.sample, expected.at("sample"), kForward, "sample");
    std::size_t i = 2;
    for (const auto& [name, tensor] : leaves) {
        test::expect_close(actual.grads[i++], expected.at("grad." + name), kGradient, name);
    }
}

TEST(LoraParity, ZeroBChangesNoValue) {
    CogVideoXTransformer model = fixture_model("i2v");
    const Case values = fixture_case("i2v");
    const at::NoGradGuard no_grad;
    const at::Tensor before = model.forward(input_of(values), {}).sample;
    (void)attach_fixture_lora(model);
    const at::Tensor changed = model.forward(input_of(values), {}).sample;
    EXPECT_FALSE(at::equal(changed, before));
    for (const auto& [name, linear] : model.adaptable_linears()) {
        if (linear->delta) {
            linear->delta->b.zero_();
        }
    }
    EXPECT_TRUE(at::equal(model.forward(input_of(values), {}).sample, before));
}

class WidenInput : public ::testing::TestWithParam<Named> {};

// Zero weights on the added channels: whatever stands in them, the model computes what it did.
TEST_P(WidenInput, AddedChannelsDoNotShow) {
    CogVideoXTransformer model = fixture_model(GetParam().kind);
    BackboneInput input = input_of(fixture_case(GetParam().name));
    const at::NoGradGuard no_grad;
    const at::Tensor before = model.forward(input, {}).sample;
    model.widen_input(48);
    EXPECT_EQ(model.in_channels(), 48);
    EXPECT_EQ(model.config().in_channels, 48);
    std::vector<std::int64_t> shape = input.hidden_states.sizes().vec();
    shape[2] = 16;
    input.hidden_states = at::cat({input.hidden_states, at::randn(shape)}, 2);
    // A longer sum of the same terms: the order of additions may change.
    test::expect_close(model.forward(input, {}).sample, before, 1e-6, "sample");
    // Each channel has its own columns: the last old channel still shows.
    input.hidden_states.select(2, 31).add_(1);
    EXPECT_GT(test::relative_error(model.forward(input, {}).sample, before), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, WidenInput,
                         ::testing::Values(Named{"i2v", "i2v"}, Named{"1.5", "1.5"}),
                         [](const auto& model) {
                             return model.index == 0 ? "convolution" : "temporal_patches";
                         });

TEST(WidenInputShapes, KeepTheCheckpointsLayout) {
    CogVideoXTransformer model = fixture_model("i2v");
    model.widen_input(32);
    EXPECT_EQ(model.input_projection().weight.sizes(), (std::vector<std::int64_t>{32, 32, 2, 2}));
    model.widen_input(48);
    EXPECT_EQ(model.input_projection().weight.sizes(), (std::vector<std::int64_t>{32, 48, 2, 2}));
    EXPECT_THROW(model.widen_input(32), c10::Error);
}

}  // namespace
}  // namespace matrix::models
