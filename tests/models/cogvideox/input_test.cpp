#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "models/cogvideox/reference.h"
#include "support/errors.h"

namespace matrix::models {
namespace {

using namespace testing;

/// A forward must refuse the input, with these words.
void refuses(const std::string& kind, at::IntArrayRef hidden, at::IntArrayRef text,
             std::int64_t timesteps, std::initializer_list<std::string_view> parts) {
    const CogVideoXTransformer model = fixture_model(kind);
    const at::NoGradGuard no_grad;
    const BackboneInput input{at::zeros(hidden), at::zeros(text),
                              at::zeros({timesteps}, at::kLong)};
    test::expect_error([&] { (void)model.forward(input, {}); }, parts);
}

TEST(BackboneInputs, ShapesAreChecked) {
    refuses("i2v", {1, 3, 31, 4, 6}, {1, 5, 10}, 1, {"hidden_states", "[1, 3, 31, 4, 6]", "32"});
    refuses("i2v", {1, 3, 32, 4}, {1, 5, 10}, 1, {"hidden_states"});
    refuses("i2v", {1, 3, 32, 4, 6}, {2, 5, 10}, 1, {"encoder_hidden_states"});
    refuses("i2v", {1, 3, 32, 4, 6}, {1, 5, 11}, 1, {"encoder_hidden_states"});
    refuses("i2v", {1, 3, 32, 4, 6}, {1, 5, 10}, 2, {"timestep"});
    refuses("id_map", {1, 0, 48, 4, 6}, {1, 5, 10}, 1, {"hidden_states"});
    refuses("id_map", {0, 1, 48, 4, 6}, {0, 5, 10}, 0, {"hidden_states"});
    refuses("id_map", {1, 1, 48, 3, 6}, {1, 5, 10}, 1, {"hidden_states", "2 x 2"});
}

TEST(BackboneInputs, LearnedTableIsForOneSizeAndTextLength) {
    refuses("i2v", {1, 3, 32, 6, 6}, {1, 5, 10}, 1, {"learned position table", "4 x 6", "6 x 6"});
    refuses("i2v", {1, 3, 32, 4, 6}, {1, 4, 10}, 1, {"encoder_hidden_states", "5", "4"});
}

TEST(BackboneInputs, TemporalPatchesAreWhole) {
    refuses("1.5", {1, 3, 32, 4, 6}, {1, 5, 10}, 1, {"hidden_states", "3", "patch_size_t"});
    refuses("1.5", {1, 2, 32, 6, 6}, {1, 5, 10}, 1, {"hidden_states", "rotary", "4 x 6"});
}

TEST(Layout, CountsTokensAfterPatching) {
    const nn::TokenLayout one = fixture_model("i2v").layout(3, 4, 6, 5);
    EXPECT_EQ(one.num_keys(), 5 + 3 * 2 * 3);
    const nn::TokenLayout two = fixture_model("1.5").layout(4, 4, 6, 1);
    EXPECT_EQ(two.frames, 2);
    EXPECT_EQ(two.num_keys(), 1 + 2 * 2 * 3);
}

}  // namespace
}  // namespace matrix::models
