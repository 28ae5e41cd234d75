#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "lora/adapters.h"
#include "matrix/core/files.h"
#include "matrix/lora/export.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::lora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ElementsAre;
using testing::random_delta;
using testing::values;

constexpr const char* kQ = "transformer_blocks.7.attn1.to_q";
constexpr const char* kOut = "transformer_blocks.11.attn1.to_out.0";
constexpr const char* kProjection = "patch_embed.proj";

AdapterInfo info_of(std::int64_t rank, double alpha, std::int64_t channels, bool id_map) {
    AdapterInfo info;
    info.rank = rank;
    info.alpha = alpha;
    info.base = "models/base";
    info.in_channels = channels;
    info.id_map = id_map;
    return info;
}

Adapter attention_adapter() {
    Adapter adapter;
    adapter.info = info_of(3, 0.7, 32, false);
    const double scale = adapter.info.scale();
    adapter.deltas[kQ] = random_delta("q", 6, {6}, 3, scale);
    adapter.deltas[kOut] = random_delta("out", 6, {6}, 3, scale);
    return adapter;
}

Adapter id_map_adapter(bool temporal_patches) {
    Adapter adapter = attention_adapter();
    adapter.info.in_channels = 48;
    adapter.info.id_map = true;
    adapter.deltas[kProjection] = temporal_patches
                                      ? random_delta("p", 6, {48 * 8}, 3, adapter.info.scale())
                                      : random_delta("p", 6, {48, 2, 2}, 3, adapter.info.scale());
    return adapter;
}

class ExportAdapter : public ::testing::Test {
protected:
    std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator(out_)) {
            names.push_back(entry.path().filename().string());
        }
        std::sort(names.begin(), names.end());
        return names;
    }
    json manifest() const { return json::parse(read_text_file(out_ / "matrix_adapter.json")); }
    tensor_io::SafetensorsFile stock() const {
        return tensor_io::SafetensorsFile(out_ / "pytorch_lora_weights.safetensors");
    }
    void expect_reads_back(const Adapter& adapter) const {
        const Adapter read = read_adapter(out_);
        ASSERT_EQ(read.deltas.size(), adapter.deltas.size());
        for (const auto& [linear, delta] : adapter.deltas) {
            EXPECT_EQ(read.deltas.at(linear).scale, 1.0);
            // B times the scale rounds once to float32.
            test::expect_close(testing::applied(read.deltas.at(linear)), testing::applied(delta),
                               1e-7, linear);
        }
    }

    test::TempDirectory directory_;
    fs::path out_ = directory_ / "adapter";
};

TEST_F(ExportAdapter, FoldsTheStrengthIntoB) {
    const Adapter adapter = attention_adapter();
    const double difference = export_adapter(adapter, out_).largest_difference;
    EXPECT_THAT(files(), ElementsAre("matrix_adapter.json", "pytorch_lora_weights.safetensors"));
    EXPECT_THAT(directory_.names(), ElementsAre("adapter"));

    const auto file = stock();
    EXPECT_THAT(file.keys(), ElementsAre(std::string("transformer.") + kOut + ".lora_A.weight",
                                         std::string("transformer.") + kOut + ".lora_B.weight",
                                         std::string("transformer.") + kQ + ".lora_A.weight",
                                         std::string("transformer.") + kQ + ".lora_B.weight"));
    const nn::LowRankDelta& delta = adapter.deltas.at(kQ);
    test::expect_equal(file.tensor("transformer." + std::string(kQ) + ".lora_A.weight"), delta.a,
                       "A");
    test::expect_equal(file.tensor("transformer." + std::string(kQ) + ".lora_B.weight"),
                       (delta.b.to(at::kDouble) * delta.scale).to(at::kFloat), "B");
    EXPECT_EQ(file.metadata().at("format"), "pt");
    EXPECT_EQ(file.metadata().size(), 2u);
    EXPECT_EQ(json::parse(file.metadata().at("lora_adapter_metadata")),
              json({{"transformer.r", 3},
                    {"transformer.lora_alpha", 3},
                    {"transformer.target_modules", {kOut, kQ}}}));
    expect_reads_back(adapter);
    EXPECT_GT(difference, 0.0);  // 0.7 / 3 is not a power of two
    double largest = 0.0;
    for (const auto& [linear, read] : read_adapter(out_).deltas) {
        const at::Tensor change =
            testing::applied(read) - testing::applied(adapter.deltas.at(linear));
        largest = std::max(largest, change.abs().max().item<double>());
    }
    EXPECT_NEAR(difference, largest, 1e-12);
}

TEST_F(ExportAdapter, DescribesItselfInTheManifest) {
    export_adapter(attention_adapter(), out_);
    EXPECT_EQ(manifest(), json({{"format_version", 1},
                                {"files", {"pytorch_lora_weights.safetensors"}},
                                {"base", "models/base"},
                                {"r", 3},
                                {"alpha", 3.0},
                                {"trained_alpha", 0.7},
                                {"in_channels", 32},
                                {"id_map", false}}));
    const Adapter read = read_adapter(out_);
    EXPECT_EQ(read.info.alpha, 3.0);
    EXPECT_EQ(read.info.trained_alpha, 0.7);
    EXPECT_EQ(read.info.base, "models/base");
}

TEST_F(ExportAdapter, FoldsRankStabilisedStrength) {
    Adapter adapter = attention_adapter();
    adapter.info.rslora = true;
    for (auto& [linear, delta] : adapter.deltas) {
        delta.scale = adapter.info.scale();
    }
    EXPECT_NEAR(adapter.info.scale(), 0.7 / std::sqrt(3.0), 1e-15);
    export_adapter(adapter, out_);
    expect_reads_back(adapter);
    EXPECT_FALSE(read_adapter(out_).info.rslora);
}

TEST_F(ExportAdapter, FillsUpToOneRank) {
    Adapter adapter = attention_adapter();
    adapter.deltas[kQ] = random_delta("q", 6, {6}, 1, 0.5);
    adapter.deltas[kProjection] = random_delta("p", 6, {32, 2, 2}, 2, 2.0);
    export_adapter(adapter, out_);
    const auto file = stock();
    for (const std::string& key : file.keys()) {
        const bool a = key.ends_with("lora_A.weight");
        EXPECT_EQ(file.shape(key)[a ? 0 : 1], 3) << key;
    }
    EXPECT_EQ(file.tensor("transformer." + std::string(kQ) + ".lora_A.weight")
                  .narrow(0, 1, 2)
                  .count_nonzero()
                  .item<std::int64_t>(),
              0);
    expect_reads_back(adapter);
}

TEST_F(ExportAdapter, SplitsTheIdMapsColumnsOff) {
    for (const bool temporal_patches : {false, true}) {
        SCOPED_TRACE(temporal_patches);
        const Adapter adapter = id_map_adapter(temporal_patches);
        export_adapter(adapter, out_);
        EXPECT_THAT(files(), ElementsAre("id_map_lora.safetensors", "matrix_adapter.json",
                                         "pytorch_lora_weights.safetensors"));
        const std::string key = "transformer.patch_embed.proj.lora_A.weight";
        const tensor_io::SafetensorsFile id_map(out_ / "id_map_lora.safetensors");
        const at::Tensor& a = adapter.deltas.at(kProjection).a;
        const std::int64_t per_channel = a.size(1) / 48;
        EXPECT_THAT(id_map.keys(), ElementsAre(key));
        test::expect_equal(stock().tensor(key), a.narrow(1, 0, 32 * per_channel), "stock");
        test::expect_equal(id_map.tensor(key), a.narrow(1, 32 * per_channel, 16 * per_channel),
                           "ID map");
        EXPECT_EQ(manifest()["in_channels"], 48);
        EXPECT_EQ(manifest()["id_map"], true);
        expect_reads_back(adapter);
    }
}

TEST_F(ExportAdapter, KeepsTheWholeProjectionBeside) {
    Adapter adapter = attention_adapter();
    adapter.info.in_channels = 48;
    adapter.info.id_map = true;
    adapter.projection_weight = values("w", {6, 48, 2, 2});
    adapter.projection_bias = values("bias", {6});
    export_adapter(adapter, out_);
    EXPECT_THAT(files(), ElementsAre("input_projection.safetensors", "matrix_adapter.json",
                                     "pytorch_lora_weights.safetensors"));
    EXPECT_EQ(stock().keys().size(), 4u);
    const tensor_io::SafetensorsFile projection(out_ / "input_projection.safetensors");
    EXPECT_THAT(projection.keys(), ElementsAre("patch_embed.proj.bias", "patch_embed.proj.weight"));
    const Adapter read = read_adapter(out_);
    test::expect_equal(read.projection_weight, adapter.projection_weight, "weight");
    test::expect_equal(read.projection_bias, adapter.projection_bias, "bias");

    adapter.deltas.clear();
    export_adapter(adapter, out_);
    EXPECT_THAT(files(), ElementsAre("input_projection.safetensors", "matrix_adapter.json"));
    EXPECT_EQ(manifest()["files"], json({"input_projection.safetensors"}));
    EXPECT_EQ(manifest()["r"], 0);
    test::expect_equal(read_adapter(out_).projection_weight, adapter.projection_weight, "weight");
}

TEST_F(ExportAdapter, SplitsABareFilesProjectionToo) {
    Adapter adapter = id_map_adapter(false);
    const nn::LowRankDelta& delta = adapter.deltas.at(kProjection);
    const std::string prefix = "transformer.patch_embed.proj.lora_";
    tensor_io::write_safetensors(directory_ / "bare.safetensors",
                                 {{prefix + "A.weight", delta.a}, {prefix + "B.weight", delta.b}});
    export_adapter(read_adapter(directory_ / "bare.safetensors"), out_);
    EXPECT_EQ(stock().shape(prefix + "A.weight"), (std::vector<std::int64_t>{3, 32, 2, 2}));
    EXPECT_EQ(manifest()["id_map"], true);
}

TEST_F(ExportAdapter, AgainGivesTheSameBytes) {
    export_adapter(id_map_adapter(false), out_);
    const fs::path again = directory_ / "again";
    EXPECT_EQ(export_adapter(read_adapter(out_), again).largest_difference, 0.0);
    for (const std::string& name : files()) {
        EXPECT_EQ(read_text_file(again / name), read_text_file(out_ / name)) << name;
    }
    // Over what it was read from.
    EXPECT_EQ(export_adapter(read_adapter(out_), out_).largest_difference, 0.0);
    EXPECT_EQ(read_text_file(again / "matrix_adapter.json"),
              read_text_file(out_ / "matrix_adapter.json"));
}

TEST_F(ExportAdapter, WritesAnEmptyDirectoryAndReplacesAnEarlierExport) {
    fs::create_directory(out_);
    export_adapter(id_map_adapter(false), out_);
    export_adapter(attention_adapter(), out_);
    EXPECT_THAT(files(), ElementsAre("matrix_adapter.json", "pytorch_lora_weights.safetensors"));
}

TEST_F(ExportAdapter, LeavesOtherPeoplesFilesAlone) {
    const auto refused = [&] {
        test::expect_error([&] { export_adapter(attention_adapter(), out_); },
                           {out_.string(), "neither empty nor an adapter directory"});
        EXPECT_THAT(directory_.names(), ElementsAre("adapter"));
    };
    std::ofstream(out_) << "a file";
    refused();
    EXPECT_EQ(read_text_file(out_), "a file");
    fs::remove(out_);
    fs::create_directory(out_);
    std::ofstream(out_ / "pytorch_lora_weights.safetensors") << "not ours: no manifest";
    refused();
    fs::remove_all(out_);
    export_adapter(attention_adapter(), out_);
    std::ofstream(out_ / "notes.txt") << "mine";
    refused();
    EXPECT_TRUE(fs::exists(out_ / "notes.txt"));
}

TEST_F(ExportAdapter, WritesNothingThatCannotBeReadBack) {
    Adapter adapter = attention_adapter();
    adapter.deltas[kQ].scale = 1e300;  // B overflows float32
    test::expect_error([&] { export_adapter(adapter, out_); }, {"lora_B.weight", "not finite"});
    EXPECT_TRUE(directory_.names().empty());
}

}  // namespace
}  // namespace matrix::lora
