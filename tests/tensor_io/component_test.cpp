#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "matrix/core/files.h"
#include "matrix/tensor_io/weights.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::tensor_io {
namespace {

using ::testing::ElementsAre;

at::Tensor made(const std::string& key) {
    return at::full({key == "large" ? 40 : 10}, static_cast<double>(key[0]), at::kFloat);
}

std::vector<PlannedTensor> planned(const std::vector<std::string>& keys) {
    std::vector<PlannedTensor> tensors;
    for (const std::string& key : keys) {
        tensors.push_back({key, at::kFloat, made(key).sizes().vec()});
    }
    return tensors;
}

TEST(WriteComponent, IsOneFileWhereItFits) {
    const test::TempDirectory directory;
    write_component(directory.path(), "model", planned({"a", "b", "c"}), made, 120);
    EXPECT_THAT(directory.names(), ElementsAre("model.safetensors"));
    const SafetensorsFile file(directory / "model.safetensors");
    EXPECT_EQ(file.metadata().at("format"), "pt");
    test::expect_equal(file.tensor("b"), made("b"), "b");
}

// 40 bytes a tensor, "large" 160.
TEST(WriteComponent, ClosesAShardBeforeTheTensorThatIsTooMuch) {
    const test::TempDirectory directory;
    write_component(directory.path(), "model", planned({"a", "b", "c", "d", "large", "x"}), made,
                    100);
    EXPECT_THAT(directory.names(),
                ElementsAre("model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                            "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                            "model.safetensors.index.json"));
    const auto index =
        nlohmann::json::parse(read_text_file(directory / "model.safetensors.index.json"));
    EXPECT_EQ(index["metadata"]["total_size"], 5 * 40 + 160);
    EXPECT_EQ(index["weight_map"]["b"], "model-00001-of-00004.safetensors");
    EXPECT_EQ(index["weight_map"]["c"], "model-00002-of-00004.safetensors");
    EXPECT_EQ(index["weight_map"]["large"], "model-00003-of-00004.safetensors");
    EXPECT_EQ(index["weight_map"]["x"], "model-00004-of-00004.safetensors");

    FileWeights weights(directory.path(), "model", at::kFloat, at::kCPU);
    EXPECT_THAT(weights.keys(), ElementsAre("a", "b", "c", "d", "large", "x"));
    for (const std::string& key : weights.keys()) {
        test::expect_equal(weights.take(key, made(key).sizes()), made(key), key);
    }
    weights.finish();
}

TEST(WriteComponent, MakesTensorsOneAtATime) {
    const test::TempDirectory directory;
    std::vector<std::string> order;
    const auto make = [&](const std::string& key) {
        order.push_back(key);
        return made(key);
    };
    write_component(directory.path(), "model", planned({"a", "b", "c"}), make, 40);
    EXPECT_THAT(order, ElementsAre("a", "b", "c"));
}

TEST(FileWeightsStored, KeepTheirOwnDtype) {
    const test::TempDirectory directory;
    write_safetensors(directory / "model.safetensors", {{"a", made("a").to(at::kBFloat16)}});
    const FileWeights weights(directory.path(), "model", at::kFloat, at::kCPU);
    EXPECT_EQ(weights.stored("a").scalar_type(), at::kBFloat16);
    test::expect_error([&] { static_cast<void>(weights.stored("b")); }, {"no tensor \"b\""});
}

}  // namespace
}  // namespace matrix::tensor_io
