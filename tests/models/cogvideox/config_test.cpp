#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "matrix/models/cogvideox.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::models {
namespace {

class TransformerConfigFile : public testing::Test {
protected:
    [[nodiscard]] CogVideoXConfig read(const std::string& json) const {
        std::ofstream(directory_ / "config.json") << json;
        return CogVideoXConfig::from_file(directory_ / "config.json");
    }
    [[nodiscard]] CogVideoXConfig with(const std::string& fields) const {
        return read(
            R"({"_class_name": "CogVideoXTransformer3DModel", "num_layers": 42, "num_attention_heads": 48,
            "attention_head_dim": 64, "in_channels": 32)" +
            fields + "}");
    }
    void refuses(const std::string& fields) const {
        const std::string name = fields.substr(1, fields.find('"', 1) - 1);
        test::expect_error([&] { (void)with(", " + fields); }, {"config.json", name});
    }

    test::TempDirectory directory_;
};

TEST_F(TransformerConfigFile, ImageToVideoHas1025Tensors) {
    const CogVideoXConfig config = with(
        R"(, "use_rotary_positional_embeddings": true, "use_learned_positional_embeddings": true)");
    tensor_io::CountingWeights counted;
    const CogVideoXTransformer model(config, counted);
    EXPECT_EQ(counted.shapes().size(), 1025u);
    EXPECT_EQ(counted.num_elements(), 5625087552);
    EXPECT_EQ(counted.shapes().at("patch_embed.pos_embedding"),
              (std::vector<std::int64_t>{1, 17776, 3072}));
}

TEST_F(TransformerConfigFile, PublishedTextToVideoAnd15) {
    tensor_io::CountingWeights small, newer;
    const CogVideoXTransformer two(
        read(R"({"_class_name": "CogVideoXTransformer3DModel", "num_layers": 30,
        "num_attention_heads": 30, "attention_head_dim": 64, "in_channels": 16})"),
        small);
    EXPECT_EQ(small.num_elements(), 1693783872);
    const CogVideoXTransformer model(
        with(R"(, "patch_size_t": 2, "ofs_embed_dim": 512, "patch_bias": false,
        "use_rotary_positional_embeddings": true, "sample_height": 300, "sample_width": 300, "sample_frames": 81)"),
        newer);
    EXPECT_EQ(newer.num_elements(), 5571594880);
    EXPECT_EQ(newer.shapes().size(), 1028u);
}

TEST_F(TransformerConfigFile, FourFieldsMustBeThere) {
    const std::string all[] = {R"("num_layers": 2)", R"("num_attention_heads": 2)",
                               R"("attention_head_dim": 16)", R"("in_channels": 16)"};
    for (const std::string& missing : all) {
        std::string json = R"({"_class_name": "CogVideoXTransformer3DModel")";
        for (const std::string& field : all) {
            json += field == missing ? "" : ", " + field;
        }
        test::expect_error([&] { (void)read(json + "}"); },
                           {"config.json", missing.substr(1, missing.find('"', 1) - 1)});
    }
    test::expect_error([&] { (void)read(R"({"num_layers": 2})"); }, {"_class_name"});
}

TEST_F(TransformerConfigFile, TypesAndRanges) {
    refuses(R"("out_channels": 0)");
    refuses(R"("time_embed_dim": 1e3)");
    refuses(R"("text_embed_dim": 4611686018427387904)");
    refuses(R"("sample_width": true)");
    refuses(R"("sample_height": 61)");
    refuses(R"("patch_size": 4)");
    refuses(R"("norm_eps": -1)");
    refuses(R"("flip_sin_to_cos": 1)");
    refuses(R"("activation_fn": "gelu")");
    refuses(R"("dropout": 0.1)");
    refuses(R"("spatial_interpolation_scale": 0)");
}

TEST_F(TransformerConfigFile, Combinations) {
    refuses(R"("use_learned_positional_embeddings": true)");
    refuses(R"("patch_size_t": 2)");
    refuses(R"("ofs_embed_dim": 256, "patch_size_t": 2, "use_rotary_positional_embeddings": true)");
    const auto heads = [&](const std::string& fields) {
        return read(
            R"({"_class_name": "CogVideoXTransformer3DModel", "num_layers": 2, "in_channels": 32, )" +
            fields + "}");
    };
    const std::string rotary =
        R"("num_attention_heads": 2, "use_rotary_positional_embeddings": true, )";
    EXPECT_NO_THROW((void)heads(rotary + R"("attention_head_dim": 32)"));
    test::expect_error([&] { (void)heads(rotary + R"("attention_head_dim": 24)"); },
                       {"attention_head_dim", "16"});
    test::expect_error(
        [&] { (void)heads(R"("num_attention_heads": 1024, "attention_head_dim": 1024)"); },
        {"num_attention_heads"});
}

}  // namespace
}  // namespace matrix::models
