#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "matrix/models/t5.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::models {
namespace {

class T5ConfigFile : public testing::Test {
protected:
    [[nodiscard]] T5Config read(const std::string& json) const {
        std::ofstream(directory_ / "config.json") << json;
        return T5Config::from_file(directory_ / "config.json");
    }
    void refuses(const std::string& field) const {
        const std::string json = R"({"feed_forward_proj": "gated-gelu", )" + field + "}";
        const std::string name = field.substr(1, field.find('"', 1) - 1);
        test::expect_error([&] { (void)read(json); }, {"config.json", name});
    }

    test::TempDirectory directory_;
};

TEST_F(T5ConfigFile, AbsentFieldsTakeTheDefaults) {
    const T5Config c = read(R"({"feed_forward_proj": "gated-gelu", "architectures": ["x"]})");
    EXPECT_EQ(c.d_model, 512);
    EXPECT_EQ(c.num_layers, 6);
    EXPECT_EQ(c.vocab_size, 32128);
    EXPECT_EQ(c.layer_norm_epsilon, 1e-6);
}

TEST_F(T5ConfigFile, ReadsTheXxlEncoder) {
    const T5Config c = read(R"({"architectures": ["T5EncoderModel"], "d_ff": 10240, "d_kv": 64,
        "d_model": 4096, "dense_act_fn": "gelu_new", "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": true, "is_gated_act": true, "layer_norm_epsilon": 1e-06,
        "model_type": "t5", "num_heads": 64, "num_layers": 24, "output_past": true,
        "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32128})");
    EXPECT_EQ(c.d_model, 4096);
    EXPECT_EQ(c.d_ff, 10240);
    EXPECT_EQ(c.num_heads, 64);
    EXPECT_EQ(c.num_layers, 24);
}

TEST_F(T5ConfigFile, OtherFeedForwards) {
    test::expect_error([&] { (void)read("{}"); }, {"config.json", "feed_forward_proj"});
    test::expect_error([&] { (void)read(R"({"feed_forward_proj": "relu"})"); },
                       {"config.json", "feed_forward_proj"});
    refuses(R"("dense_act_fn": "silu")");
    refuses(R"("is_gated_act": false)");
    refuses(R"("model_type": "umt5")");
}

TEST_F(T5ConfigFile, TypesAndRanges) {
    refuses(R"("d_model": 0)");
    refuses(R"("d_model": -4096)");
    refuses(R"("d_model": 1e300)");
    refuses(R"("d_model": 4611686018427387904)");
    refuses(R"("d_model": "4096")");
    refuses(R"("num_layers": 1000000000)");
    refuses(R"("num_heads": 1.5)");
    refuses(R"("d_kv": null)");
    refuses(R"("d_ff": [1])");
    refuses(R"("vocab_size": true)");
    refuses(R"("layer_norm_epsilon": -1)");
    refuses(R"("relative_attention_num_buckets": 2)");
    refuses(R"("relative_attention_max_distance": 8)");
}

}  // namespace
}  // namespace matrix::models
