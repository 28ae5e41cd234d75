#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "data_source/dataset.h"
#include "matrix/core/random.h"
#include "matrix/data_source/sample.h"
#include "matrix/models/posterior.h"
#include "matrix/models/t5.h"
#include "matrix/models/vae.h"
#include "matrix/prepare/prepare.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::prepare {
namespace {

namespace fs = std::filesystem;
using test::expect_equal;

constexpr const char* kT5Config = R"({"d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 16,
    "num_layers": 1, "vocab_size": 32128, "feed_forward_proj": "gated-gelu"})";

// A model directory with random weights: the VAE's test configuration and a T5 of one block.
void write_model(const fs::path& model) {
    const auto generate = [](const std::string& key, at::IntArrayRef shape) {
        return keyed_normal(shape, 1, Purpose::kModelInit, name_key(key)) * 0.1;
    };
    fs::create_directories(model / "vae");
    fs::create_directories(model / "text_encoder");
    fs::create_directory_symlink(fs::path(MATRIX_SOURCE_DIR) / "assets/t5-tokenizer",
                                 model / "tokenizer");
    fs::copy_file(fs::path(MATRIX_FIXTURES) / "vae/tiny.json", model / "vae/config.json");
    tensor_io::GeneratedWeights vae(generate);
    models::take_vae_weights(models::VaeConfig::from_file(model / "vae/config.json"), vae);
    tensor_io::write_safetensors(model / "vae/diffusion_pytorch_model.safetensors", vae.tensors());
    std::ofstream(model / "text_encoder/config.json") << kT5Config;
    tensor_io::GeneratedWeights t5(generate);
    const models::T5Encoder encoder(models::T5Config::from_file(model / "text_encoder/config.json"),
                                    t5);
    tensor_io::write_safetensors(model / "text_encoder/model.safetensors", t5.tensors());
}

TEST(ModelEncoders, EncodeAsTheModelsDo) {
    const test::Dataset data;
    data.write_two_clips();
    const test::TempDirectory directory;
    write_model(directory / "model");
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        PrepareOptions options;
        options.model = directory / "model";
        options.data = data.config();
        options.data.cache = (directory / "cache").string();
        options.dtype = dtype;
        const auto source = open_source(options);
        const auto sample = source->get(0, 1, 2);

        const text::T5Tokenizer tokenizer(options.model / "tokenizer");
        const auto raw = load_sample(data_source::read_manifest(data.root()).rows[0], options.data,
                                     tokenizer, false);
        tensor_io::FileWeights vae_weights(options.model / "vae", "diffusion_pytorch_model", dtype,
                                           at::kCPU);
        const models::VaeEncoder vae(
            models::VaeConfig::from_file(options.model / "vae/config.json"), vae_weights);
        const at::Tensor moments = vae.encode(raw.video.unsqueeze(0).to(dtype));
        expect_equal(sample.video_moments, moments[0].to(at::kFloat), "video_moments");
        const at::Tensor painted = vae.encode(raw.id_map.unsqueeze(0).unsqueeze(2).to(dtype));
        expect_equal(sample.id_map_mean, models::posterior_mean(painted[0]).to(at::kFloat),
                     "id_map_mean");

        tensor_io::FileWeights t5_weights(options.model / "text_encoder", "model", dtype, at::kCPU);
        const models::T5Encoder t5(
            models::T5Config::from_file(options.model / "text_encoder/config.json"), t5_weights);
        EXPECT_EQ(sample.prompt.scalar_type(), dtype);
        // The prompt was one of a batch there, whose products round differently.
        test::expect_close(sample.prompt, t5.forward(raw.input_ids.unsqueeze(0))[0],
                           dtype == at::kFloat ? 1e-5 : 2e-2, "prompt");
    }
}

TEST(ModelEncoders, AMissingModelIsAnErrorThatNamesTheFile) {
    const test::Dataset data;
    data.write_two_clips();
    const test::TempDirectory directory;
    write_model(directory / "model");
    fs::remove(directory / "model/vae/config.json");
    PrepareOptions options;
    options.model = directory / "model";
    options.data = data.config();
    options.data.cache = (directory / "cache").string();
    options.dtype = at::kFloat;
    test::expect_error([&] { prepare(options); }, {"vae"});
}

TEST(ModelEncoders, AFileThatIsNotTheVaesIsRefused) {
    const test::Dataset data;
    data.write_two_clips();
    const test::TempDirectory directory;
    write_model(directory / "model");
    const fs::path file = directory / "model/vae/diffusion_pytorch_model.safetensors";
    tensor_io::TensorMap tensors = tensor_io::SafetensorsFile(file).all();
    auto renamed = tensors.extract("decoder.conv_out.conv.bias");
    renamed.key() = "decoder.conv_out.bias";
    tensors.insert(std::move(renamed));
    tensor_io::write_safetensors(file, tensors);
    PrepareOptions options;
    options.model = directory / "model";
    options.data = data.config();
    options.data.cache = (directory / "cache").string();
    options.dtype = at::kFloat;
    test::expect_error([&] { prepare(options); }, {"missing tensor \"decoder.conv_out.conv.bias\"",
                                                   "unexpected tensor \"decoder.conv_out.bias\""});
    EXPECT_FALSE(fs::exists(directory / "cache/videos"));
}

}  // namespace
}  // namespace matrix::prepare
