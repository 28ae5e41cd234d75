#include "matrix/lora/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "matrix/lora/base_model.h"

namespace matrix::lora {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

CardFacts facts_of(const std::string& base) {
    CardFacts facts;
    facts.info = {8, 8.0, false, base, 48, true, 4.0};
    facts.linears = {"transformer_blocks.11.attn1.to_q", "transformer_blocks.7.attn1.to_out.0"};
    facts.whole_projection = true;
    facts.format = "diffusers";
    facts.files = {"input_projection.safetensors", "pytorch_lora_weights.safetensors"};
    return facts;
}

TEST(BaseModels, AreRecognisedByName) {
    for (const char* path :
         {"THUDM/CogVideoX-5b-I2V", "/models/cogvideox-5b-i2v/", "CogVideoX-5b-I2V",
          "/cache/models--THUDM--CogVideoX-5b-I2V/snapshots/0123"}) {
        const BaseModel base = find_base_model(path);
        EXPECT_EQ(base.hub_name, "THUDM/CogVideoX-5b-I2V") << path;
        EXPECT_EQ(base.licence, "other");
        EXPECT_EQ(base.licence_name, "cogvideox-license");
        EXPECT_EQ(base_name(path), "THUDM/CogVideoX-5b-I2V");
    }
    EXPECT_EQ(find_base_model("CogVideoX-2b").licence, "apache-2.0");
    EXPECT_EQ(find_base_model("CogVideoX-2b").licence_name, "");
    for (const char* path : {"", "models/tiny", "my-CogVideoX-5b-I2V-finetune", "CogVideoX-5b/mine",
                             "models--me--CogVideoX-5b", "/x/me--CogVideoX-5b"}) {
        EXPECT_EQ(find_base_model(path).hub_name, "") << path;
    }
    EXPECT_EQ(find_base_model("/c/models--zai-org--CogVideoX-2b/snapshots/1").hub_name,
              "THUDM/CogVideoX-2b");
    EXPECT_EQ(base_name("/somewhere/tiny/"), "tiny");
}

TEST(ModelCard, BeginsWithWhatTheHubReads) {
    EXPECT_THAT(model_card(facts_of("/home/me/CogVideoX-5b-I2V")),
                StartsWith("---\n"
                           "base_model: THUDM/CogVideoX-5b-I2V\n"
                           "base_model_relation: adapter\n"
                           "library_name: diffusers\n"
                           "license: other\n"
                           "license_name: cogvideox-license\n"
                           "license_link: "
                           "https://huggingface.co/THUDM/CogVideoX-5b-I2V/blob/main/LICENSE\n"
                           "pipeline_tag: image-to-video\n"
                           "tags:\n- cogvideox\n- image-to-video\n- lora\n- matrix.cpp\n---\n"));
    const std::string unknown = model_card(facts_of("/home/me/tiny"));
    EXPECT_THAT(unknown, StartsWith("---\nlibrary_name: diffusers\npipeline_tag"));
    EXPECT_THAT(unknown, HasSubstr("The licence of the base applies"));
    EXPECT_THAT(unknown, Not(HasSubstr("/home/me")));
}

TEST(ModelCard, TellsOfTheRun) {
    CardFacts facts = facts_of("tiny");
    std::string card = model_card(facts);
    EXPECT_THAT(card, HasSubstr("| rank | 8 |\n| alpha | 4.0 |\n"));
    EXPECT_THAT(card, HasSubstr("| LoRA on | to_out.0, to_q of blocks 7, 11 |"));
    EXPECT_THAT(card, HasSubstr("trained whole, 48 input channels (with an ID map)"));
    EXPECT_THAT(card, HasSubstr("configuration of the training run is not known"));
    EXPECT_THAT(card, Not(HasSubstr("## Data")));
    facts.run_config = R"({"train": {"steps": 90, "seed": 3}, "data": {"path": "/secret/clips"},
        "alignment": {"sga": null, "spa": {"weight": 0.5, "blocks": [2, 3]}},
        "lora": {"init_from": "/secret/first/adapter"}})";
    card = model_card(facts);
    EXPECT_THAT(card, HasSubstr("| optimizer steps | 90 |"));
    EXPECT_THAT(card, HasSubstr("weight 0.5 in blocks 2, 3"));
    EXPECT_THAT(card, Not(HasSubstr("SGA (")));
    EXPECT_THAT(card, HasSubstr("| data set | `clips` |"));
    EXPECT_THAT(card, HasSubstr("| started from | `adapter` |"));
    EXPECT_THAT(card, Not(HasSubstr("/secret")));
    facts.steps = 30;
    EXPECT_THAT(model_card(facts), HasSubstr("| optimizer steps | 30 |"));
}

TEST(ModelCard, ShowsTheLinesOfItsFormat) {
    CardFacts facts = facts_of("tiny");
    EXPECT_THAT(model_card(facts), HasSubstr("pipe.load_lora_weights(\".\""));
    EXPECT_THAT(model_card(facts), HasSubstr("IdMapPipeline"));
    facts.format = "comfyui";
    facts.files = {"input_projection.safetensors", "matrix_lora_comfyui.safetensors"};
    EXPECT_THAT(model_card(facts), HasSubstr("ComfyUI has no such input"));
    facts.format = "kohya";
    facts.files = {"input_projection.safetensors", "matrix_lora_kohya.safetensors"};
    EXPECT_THAT(model_card(facts), HasSubstr("Neither reads `input_projection.safetensors`"));
    facts.format = "merged";
    EXPECT_THAT(model_card(facts), HasSubstr("CogVideoXTransformer3DModel.from_pretrained"));
    EXPECT_THAT(model_card(facts), Not(HasSubstr("loads alone")));
    facts.info.id_map = false;
    EXPECT_THAT(model_card(facts), Not(HasSubstr("ID map")));
}

TEST(ModelCard, KnowsModelsWithoutAnImage) {
    CardFacts facts = facts_of("CogVideoX-5b");
    EXPECT_THAT(model_card(facts), HasSubstr("pipeline_tag: text-to-video"));
    EXPECT_THAT(model_card(facts), HasSubstr("= CogVideoXPipeline.from_pretrained"));
    facts.format = "merged";
    EXPECT_THAT(model_card(facts), HasSubstr("= CogVideoXPipeline.from_pretrained"));
    EXPECT_THAT(model_card(facts), Not(HasSubstr("ImageToVideo")));
}

TEST(ModelCard, PutsALinearProjectionIntoModelsWithTemporalPatches) {
    CardFacts facts = facts_of("CogVideoX1.5-5B-I2V");
    facts.linear_projection = true;
    EXPECT_THAT(model_card(facts), HasSubstr("torch.nn.Linear(weight.shape[1], len(weight))"));
    EXPECT_THAT(model_card(facts), Not(HasSubstr("Conv2d")));
}

}  // namespace
}  // namespace matrix::lora
