#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "matrix/core/error.h"
#include "matrix/tensor_io/safetensors.h"
#include "matrix/tensor_io/weights.h"
#include "models/vae/reference.h"

namespace matrix::models {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

nlohmann::json read_json(const std::string& path) {
    return nlohmann::json::parse(std::ifstream(path));
}

class VaeFiles : public ::testing::Test {
protected:
    VaeFiles() {
        fs::remove_all(directory_);
        fs::create_directories(directory_);
    }
    ~VaeFiles() override { fs::remove_all(directory_); }

    /// Writes the tiny config with the members of `patch` in place of its own (null removes) and
    /// reads it.
    VaeConfig read_config(const nlohmann::json& patch) const {
        nlohmann::json config = read_json(testing::fixture("tiny.json"));
        config.merge_patch(patch);
        std::ofstream(directory_ / "config.json") << config;
        return VaeConfig::from_file(directory_ / "config.json");
    }
    /// Writes `tensors` as the VAE's file, opens it and builds the encoder of the tiny config.
    VaeEncoder open(const tensor_io::TensorMap& tensors, at::ScalarType dtype = at::kFloat) const {
        const std::string stem = "diffusion_pytorch_model";
        tensor_io::write_safetensors(directory_ / (stem + ".safetensors"), tensors);
        tensor_io::FileWeights weights(directory_, stem, dtype, at::kCPU);
        return {testing::fixture_config("tiny"), weights};
    }

    fs::path directory_ =
        fs::path(::testing::TempDir()) /
        ("vae." + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) + "." +
         ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

tensor_io::TensorMap tiny_tensors() {
    tensor_io::GeneratedWeights weights(testing::weight);
    take_vae_weights(testing::fixture_config("tiny"), weights);
    return weights.tensors();
}

TEST(VaeWeights, AreTheReferencesKeysAndShapes) {
    const nlohmann::json shapes = read_json(testing::fixture("shapes.json"));
    ASSERT_EQ(shapes.size(), 3U);
    for (const auto& [name, wanted] : shapes.items()) {
        tensor_io::CountingWeights weights;
        take_vae_weights(testing::fixture_config(name), weights);
        EXPECT_EQ(weights.shapes(),
                  (wanted.get<std::map<std::string, std::vector<std::int64_t>>>()))
            << name;
        // The encoder looks at the whole file, too.
        tensor_io::CountingWeights seen;
        const VaeEncoder encoder(testing::fixture_config(name), seen);
        EXPECT_EQ(seen.shapes(), weights.shapes()) << name;
        if (name == "published") {
            EXPECT_EQ(weights.shapes().size(), 436U);
            EXPECT_EQ(weights.num_elements(), 215583907);
        }
    }
}

TEST_F(VaeFiles, EncoderComesFromACompleteFile) {
    const at::Tensor video = testing::uniform("video.frames_9", {1, 3, 9, 24, 40});
    const at::Tensor moments = open(tiny_tensors()).encode(video);
    EXPECT_LE(testing::relative_error(moments, testing::expected("frames_9")), 1e-5);
    EXPECT_EQ(open(tiny_tensors(), at::kBFloat16).encode(video).scalar_type(), at::kBFloat16);
}

TEST_F(VaeFiles, EveryFaultOfBothHalvesIsReported) {
    tensor_io::TensorMap tensors = tiny_tensors();
    tensors.erase("encoder.mid_block.resnets.1.norm2.bias");
    tensors.erase("decoder.up_blocks.0.upsamplers.0.conv.weight");
    tensors["encoder.conv_in.conv.weight"] = at::zeros({8, 3, 3, 3});
    tensors["decoder.norm_out.conv_y.conv.bias"] = at::zeros({9});
    tensors["decoder.conv_out.conv.bias"] = at::zeros({3}, at::kLong);
    tensors["quant_conv.weight"] = at::zeros({8, 8, 1, 1, 1});
    try {
        (void)open(tensors);
        FAIL() << "accepted";
    } catch (const RunError& error) {
        EXPECT_THAT(
            error.faults(),
            ::testing::UnorderedElementsAre(
                AllOf(HasSubstr("missing"), HasSubstr("encoder.mid_block.resnets.1.norm2.bias")),
                AllOf(HasSubstr("missing"),
                      HasSubstr("decoder.up_blocks.0.upsamplers.0.conv.weight")),
                AllOf(HasSubstr("encoder.conv_in.conv.weight"), HasSubstr("[8, 3, 3, 3]")),
                AllOf(HasSubstr("decoder.norm_out.conv_y.conv.bias"), HasSubstr("[9]")),
                AllOf(HasSubstr("decoder.conv_out.conv.bias"), HasSubstr("floating")),
                AllOf(HasSubstr("unexpected"), HasSubstr("quant_conv.weight"))));
    }
}

TEST(VaeConfigFile, HasTheReferencesValues) {
    const VaeConfig c = testing::fixture_config("other");
    EXPECT_THAT(c.block_out_channels, ElementsAre(6, 12, 18));
    EXPECT_EQ(c.latent_channels, 4);
    EXPECT_EQ(c.layers_per_block, 2);
    EXPECT_EQ(c.norm_num_groups, 3);
    EXPECT_EQ(c.norm_eps, 0.05);
    EXPECT_EQ(c.temporal_compression_ratio, 2);
    EXPECT_EQ(c.sample_height, 192);
    EXPECT_EQ(c.sample_width, 160);
    EXPECT_EQ(c.scaling_factor, 0.7);
    EXPECT_EQ(spatial_downscale(c), 4);
    EXPECT_EQ(spatial_downscale(VaeConfig{}), 8);
}

TEST_F(VaeFiles, AbsentConfigFieldsTakeTheReferencesDefaults) {
    std::ofstream(directory_ / "config.json") << "{}";
    const VaeConfig c = VaeConfig::from_file(directory_ / "config.json");
    const VaeConfig published = testing::fixture_config("published");
    EXPECT_EQ(c.block_out_channels, published.block_out_channels);
    EXPECT_EQ(c.layers_per_block, published.layers_per_block);
    EXPECT_EQ(c.latent_channels, published.latent_channels);
    EXPECT_EQ(c.norm_num_groups, published.norm_num_groups);
    EXPECT_EQ(c.norm_eps, published.norm_eps);
    EXPECT_EQ(c.sample_height, published.sample_height);
    EXPECT_EQ(c.sample_width, published.sample_width);
    EXPECT_EQ(c.temporal_compression_ratio, published.temporal_compression_ratio);
    EXPECT_EQ(c.scaling_factor, 1.15258426);
    EXPECT_FALSE(c.invert_scale_latents);
}

TEST_F(VaeFiles, ConfigFieldsThatCannotBeAreNamed) {
    const std::vector<nlohmann::json> patches = {
        {{"_class_name", "AutoencoderKL"}},
        {{"in_channels", 0}},
        {{"out_channels", "3"}},
        {{"latent_channels", 1e9}},
        {{"block_out_channels", nlohmann::json::array()}},
        {{"block_out_channels", {8, 8, 16, std::int64_t{1} << 40}}},
        {{"block_out_channels", 8}},
        {{"down_block_types", {"CogVideoXDownBlock3D"}}},
        {{"down_block_types", {"DownBlock3D", "DownBlock3D", "DownBlock3D", "DownBlock3D"}}},
        {{"up_block_types", "CogVideoXUpBlock3D"}},
        {{"layers_per_block", 0}},
        {{"layers_per_block", 1000000}},
        {{"act_fn", "gelu"}},
        {{"norm_eps", -1e-6}},
        {{"norm_eps", "1e-6"}},
        {{"norm_num_groups", 3}},
        {{"norm_num_groups", 0}},
        {{"sample_height", 0}},
        {{"sample_width", 1.5}},
        {{"temporal_compression_ratio", 3}},
        {{"temporal_compression_ratio", 2.5}},
        {{"temporal_compression_ratio", 16}},
        {{"temporal_compression_ratio", 0}},
        {{"scaling_factor", 0}},
        {{"scaling_factor", true}},
        {{"shift_factor", 0.1}},
        {{"latents_mean", {0.0}}},
        {{"latents_std", {1.0}}},
        {{"force_upcast", "yes"}},
        {{"use_quant_conv", true}},
        {{"use_post_quant_conv", true}},
        {{"invert_scale_latents", 1}},
    };
    for (const nlohmann::json& patch : patches) {
        const std::string field = patch.begin().key();
        EXPECT_THAT([&] { (void)read_config(patch); },
                    ThrowsMessage<RunError>(AllOf(HasSubstr("config.json"), HasSubstr(field))))
            << patch;
    }
}

TEST_F(VaeFiles, ConfigWithOtherBlocksMustNameTheirTypes) {
    const nlohmann::json three = {{"block_out_channels", {8, 8, 16}},
                                  {"down_block_types", nullptr}};
    EXPECT_THAT([&] { (void)read_config(three); },
                ThrowsMessage<RunError>(HasSubstr("down_block_types: missing")));
    EXPECT_EQ(read_config({{"temporal_compression_ratio", 8.0}}).temporal_compression_ratio, 8);
    EXPECT_TRUE(read_config({{"invert_scale_latents", true}, {"_diffusers_version", "0.42.1"}})
                    .invert_scale_latents);
}

}  // namespace
}  // namespace matrix::models
