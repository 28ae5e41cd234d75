#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "matrix/models/t5.h"
#include "matrix/tensor_io/safetensors.h"
#include "matrix/tensor_io/weights.h"
#include "models/t5/relative_position.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::models {
namespace {

namespace fs = std::filesystem;
using tensor_io::FileWeights;
using tensor_io::SafetensorsFile;
using tensor_io::TensorMap;

const fs::path kFixtures = fs::path(MATRIX_FIXTURES) / "t5";
const char* const kCases[] = {"one", "odd", "window", "many"};

T5Encoder load(const fs::path& directory, at::ScalarType dtype) {
    FileWeights weights(directory, "model", dtype, at::kCPU);
    return {T5Config::from_file(directory / "config.json"), weights};
}

double rms(const at::Tensor& difference) {
    return difference.to(at::kDouble).square().mean().sqrt().item<double>();
}

class Encoder : public testing::TestWithParam<const char*> {
protected:
    fs::path directory_ = kFixtures / GetParam();
    TensorMap expected_ = SafetensorsFile(directory_ / "expected.safetensors").all();
};

// 1e-5 of the largest value: float32 rounding through a few layers; matrix products add in another
// order.
TEST_P(Encoder, EqualsTransformersInFloat32) {
    const T5Encoder encoder = load(directory_, at::kFloat);
    for (const std::string name : kCases) {
        const at::Tensor output = encoder.forward(expected_.at(name + ".input_ids"));
        EXPECT_EQ(output.scalar_type(), at::kFloat);
        EXPECT_FALSE(output.requires_grad());
        test::expect_close(output, expected_.at(name + ".float32"), 1e-5, name);
    }
}

// No slack: fewer of our intermediate values are rounded (0.4 to 0.9 of the reference's error
// here).
TEST_P(Encoder, InBfloat16IsNoFurtherFromFloat32ThanTransformers) {
    const T5Encoder encoder = load(directory_, at::kBFloat16);
    for (const std::string name : kCases) {
        const at::Tensor output = encoder.forward(expected_.at(name + ".input_ids"));
        EXPECT_EQ(output.scalar_type(), at::kBFloat16);
        const at::Tensor exact = expected_.at(name + ".rounded");
        const double theirs = rms(expected_.at(name + ".bfloat16") - exact);
        const double ours = rms(output - exact);
        EXPECT_GT(ours, 0);
        EXPECT_LE(ours, theirs) << name;
    }
}

// A prompt's result must not depend on its neighbours; "many" is longer than one pass.
TEST_P(Encoder, PromptsAreIndependent) {
    const T5Encoder encoder = load(directory_, at::kFloat);
    const at::Tensor ids = expected_.at("many.input_ids");
    const at::Tensor together = encoder.forward(ids);
    for (std::int64_t i = 0; i < ids.size(0); ++i) {
        test::expect_close(encoder.forward(ids.narrow(0, i, 1)), together.narrow(0, i, 1), 1e-6,
                           "prompt " + std::to_string(i));
    }
    EXPECT_EQ(encoder.forward(ids.narrow(0, 0, 0)).sizes(),
              (std::vector<std::int64_t>{0, 13, encoder.config().d_model}));
}

INSTANTIATE_TEST_SUITE_P(Models, Encoder, testing::Values("tiny", "wide"),
                         [](const auto& model) { return std::string(model.param); });

TEST(T5Encoder, RefusesIdsOutsideTheVocabulary) {
    const T5Encoder encoder = load(kFixtures / "tiny", at::kFloat);
    const auto encode = [&](std::int64_t id) {
        return encoder.forward(at::full({1, 3}, id, at::kLong));
    };
    EXPECT_NO_THROW((void)encode(95));
    test::expect_error([&] { (void)encode(96); }, {"token id 96", "vocabulary of 96"});
    test::expect_error([&] { (void)encode(-1); }, {"token id -1"});
}

class Checkpoint : public testing::Test {
protected:
    Checkpoint() { fs::copy_file(kFixtures / "tiny/config.json", directory_ / "config.json"); }
    void save() const { tensor_io::write_safetensors(directory_ / "model.safetensors", tensors_); }
    [[nodiscard]] T5Encoder reload() const { return load(directory_.path(), at::kFloat); }

    test::TempDirectory directory_;
    TensorMap tensors_ = SafetensorsFile(kFixtures / "tiny/model.safetensors").all();
};

TEST_F(Checkpoint, MayHoldTheTiedCopy) {
    tensors_["encoder.embed_tokens.weight"] = tensors_.at("shared.weight").clone();
    save();
    EXPECT_NO_THROW((void)reload());
    for (const at::Tensor& other : {tensors_.at("shared.weight") + 1,  // other values
                                    tensors_.at("shared.weight").slice(0, 1).contiguous(),
                                    tensors_.at("shared.weight").to(at::kInt)}) {
        tensors_["encoder.embed_tokens.weight"] = other;
        save();
        test::expect_error([&] { (void)reload(); },
                           {"encoder.embed_tokens.weight", "copy of", "shared.weight"});
    }
}

TEST_F(Checkpoint, MayBeBfloat16) {
    for (auto& [key, tensor] : tensors_) {
        tensor = tensor.to(at::kBFloat16);
    }
    save();
    const TensorMap expected = SafetensorsFile(kFixtures / "tiny/expected.safetensors").all();
    test::expect_close(reload().forward(expected.at("odd.input_ids")), expected.at("odd.rounded"),
                       1e-5, "odd");
}

TEST_F(Checkpoint, MissingAndUnexpectedTensors) {
    tensors_.erase("encoder.final_layer_norm.weight");
    save();
    test::expect_error([&] { (void)reload(); }, {"encoder.final_layer_norm.weight"});
    tensors_["encoder.final_layer_norm.weight"] = at::ones({23});
    save();
    test::expect_error([&] { (void)reload(); }, {"encoder.final_layer_norm.weight"});
    tensors_["encoder.final_layer_norm.weight"] = at::ones({24});
    tensors_["decoder.block.0.layer.0.layer_norm.weight"] = at::ones({24});
    save();
    test::expect_error([&] { (void)reload(); }, {"decoder.block.0.layer.0.layer_norm.weight"});
}

TEST(T5Encoder, KeysAndShapesOfTheXxlEncoder) {
    T5Config xxl;
    xxl.d_model = 4096;
    xxl.num_heads = 64;
    xxl.d_ff = 10240;
    xxl.num_layers = 24;
    tensor_io::CountingWeights counted;
    const T5Encoder encoder(xxl, counted);
    EXPECT_EQ(counted.shapes().size(), 219u);
    EXPECT_EQ(counted.num_elements(), 4762310656);
}

TEST(RelativePositionBucket, EqualsTransformers) {
    const TensorMap tables = SafetensorsFile(kFixtures / "buckets.safetensors").all();
    const at::Tensor relative = at::arange(-300, 301, at::kLong);
    ASSERT_EQ(tables.size(), 4u);
    for (const auto& [name, expected] : tables) {
        const auto dot = name.find('.');
        EXPECT_TRUE(at::equal(relative_position_bucket(relative, std::stol(name.substr(0, dot)),
                                                       std::stol(name.substr(dot + 1))),
                              expected))
            << name;
    }
}

}  // namespace
}  // namespace matrix::models
