#include "lora/dialect.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace matrix::lora {
namespace {

struct Row {
    Dialect dialect;
    const char* linear;
    Role role;
    const char* key;
};

// Written out, not made: the keys are what other programs look for.
const Row kRows[] = {
    {Dialect::kDiffusers, "transformer_blocks.7.attn1.to_q", Role::kA,
     "transformer.transformer_blocks.7.attn1.to_q.lora_A.weight"},
    {Dialect::kDiffusers, "patch_embed.proj", Role::kB,
     "transformer.patch_embed.proj.lora_B.weight"},
    {Dialect::kOldDiffusers, "transformer_blocks.7.attn1.to_out.0", Role::kB,
     "transformer.transformer_blocks.7.attn1.to_out.0.lora.up.weight"},
    {Dialect::kPeft, "transformer_blocks.11.attn1.to_v", Role::kA,
     "base_model.model.transformer_blocks.11.attn1.to_v.lora_A.weight"},
    {Dialect::kPeft, "patch_embed.proj", Role::kWeight, "base_model.model.patch_embed.proj.weight"},
    {Dialect::kKohya, "transformer_blocks.7.attn1.to_q", Role::kA,
     "lora_unet__transformer_blocks_7_attn1_to_q.lora_down.weight"},
    {Dialect::kKohya, "transformer_blocks.41.attn1.to_out.0", Role::kB,
     "lora_unet__transformer_blocks_41_attn1_to_out_0.lora_up.weight"},
    {Dialect::kKohya, "transformer_blocks.0.ff.net.0.proj", Role::kAlpha,
     "lora_unet__transformer_blocks_0_ff_net_0_proj.alpha"},
    {Dialect::kMusubi, "transformer_blocks.7.attn1.to_k", Role::kA,
     "lora_unet_transformer_blocks_7_attn1_to_k.lora_down.weight"},
    {Dialect::kMusubi, "patch_embed.proj", Role::kAlpha, "lora_unet_patch_embed_proj.alpha"},
    {Dialect::kComfyui, "transformer_blocks.7.attn1.to_q", Role::kA,
     "diffusion_model.blocks.7.q.lora_A.weight"},
    {Dialect::kComfyui, "transformer_blocks.7.attn1.to_out.0", Role::kB,
     "diffusion_model.blocks.7.attn_out.lora_B.weight"},
    {Dialect::kComfyui, "transformer_blocks.7.ff.net.2", Role::kAlpha,
     "diffusion_model.blocks.7.ff_out.alpha"},
    {Dialect::kComfyui, "time_embedding.linear_1", Role::kA,
     "diffusion_model.time_embedding_linear_1.lora_A.weight"},
    {Dialect::kComfyui, "patch_embed.proj", Role::kWeight,
     "diffusion_model.patch_embed.proj.set_weight"},
    {Dialect::kComfyui, "patch_embed.proj", Role::kBias,
     "diffusion_model.patch_embed.proj.bias.set_weight"},
    {Dialect::kComfyuiDown, "transformer_blocks.7.attn1.to_v", Role::kB,
     "diffusion_model.blocks.7.v.lora_up.weight"},
};

TEST(Dialects, NameTheKeysOfTheirTools) {
    for (const Row& row : kRows) {
        SCOPED_TRACE(row.key);
        EXPECT_EQ(dialect_key(row.dialect, row.linear, row.role), row.key);
        const auto parsed = parse_key(row.key);
        ASSERT_TRUE(parsed);
        EXPECT_EQ(parsed->dialect, row.dialect);
        EXPECT_EQ(parsed->linear, row.linear);
        EXPECT_EQ(parsed->role, row.role);
    }
}

// ComfyUI knows its modules by this spelling too.
TEST(Dialects, OneUnderscoreMayNameComfyuisModules) {
    const auto parsed = parse_key("lora_unet_blocks_3_attn_out.lora_up.weight");
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->dialect, Dialect::kMusubi);
    EXPECT_EQ(parsed->linear, "transformer_blocks.3.attn1.to_out.0");
}

TEST(Dialects, KnowNoOtherKey) {
    for (const char* key :
         {"", "lora_A.weight", "transformer.lora_A.weight", "transformer.x.weight",
          "base_model.model.transformer_blocks.0.attn1.to_q.weight",
          "base_model.model.x.lora_A.default.weight", "lora_unet__x.lora_down.weight",
          "lora_unet__transformer_blocks_07_attn1_to_q.lora_down.weight",
          "lora_unet__transformer_blocks_7_attn1_to_q.lora_A.weight",
          "lora_unet__transformer_blocks_attn1_to_q.alpha", "lora_te_x.lora_down.weight",
          "lora_unet__blocks_7_q.lora_down.weight", "diffusion_model.blocks.7.q.diff",
          "diffusion_model.blocks.7.q.set_weight",
          "diffusion_model.transformer_blocks.7.attn1.to_q.lora_A.weight",
          "diffusion_model.blocks.7.q.dora_scale"}) {
        EXPECT_FALSE(parse_key(key)) << key;
    }
}

TEST(Dialects, RefuseALinearWithoutAName) {
    for (const Dialect dialect : {Dialect::kKohya, Dialect::kComfyui}) {
        test::expect_error([&] { static_cast<void>(dialect_key(dialect, "some.other", Role::kA)); },
                           {"some.other", "has no key"});
    }
    test::expect_error(
        [&] { static_cast<void>(dialect_key(Dialect::kDiffusers, "x", Role::kAlpha)); },
        {"x", "has no key"});
}

}  // namespace
}  // namespace matrix::lora
