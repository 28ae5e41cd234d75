#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "lora/adapters.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/lora/export.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::lora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::applied;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::random_delta;
using testing::values;

constexpr const char* kQ = "transformer_blocks.1.attn1.to_q";
constexpr const char* kOut = "transformer_blocks.2.attn1.to_out.0";
constexpr const char* kProjection = "patch_embed.proj";
constexpr Format kFormats[] = {Format::kDiffusers, Format::kPeft, Format::kKohya, Format::kComfyui};

enum class Projection { kNone, kLora, kLinearLora, kWhole };

Adapter adapter_with(double alpha, bool rslora = false, Projection projection = Projection::kNone,
                     std::int64_t channels = 32) {
    Adapter adapter;
    adapter.info = {4, alpha, rslora, "models/base", channels, channels == 48};
    const double scale = adapter.info.scale();
    adapter.deltas[kQ] = random_delta("q", 6, {6}, 4, scale);
    adapter.deltas[kOut] = random_delta("out", 6, {6}, 4, scale);
    if (projection == Projection::kLora) {
        adapter.deltas[kProjection] = random_delta("p", 6, {channels, 2, 2}, 4, scale);
    } else if (projection == Projection::kLinearLora) {
        adapter.deltas[kProjection] = random_delta("p", 6, {channels * 8}, 4, scale);
    } else if (projection == Projection::kWhole) {
        adapter.projection_weight = values("w", {6, channels, 2, 2});
        adapter.projection_bias = values("bias", {6});
    }
    return adapter;
}

ExportOptions options_of(Format format, at::ScalarType dtype = at::kFloat) {
    ExportOptions options;
    options.format = format;
    options.dtype = dtype;
    return options;
}

class ExportFormats : public ::testing::Test {
protected:
    ExportReport write(const Adapter& adapter, Format format,
                       at::ScalarType dtype = at::kFloat) const {
        return export_adapter(adapter, out_, options_of(format, dtype));
    }
    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator(out_)) {
            names.push_back(entry.path().filename().string());
        }
        std::sort(names.begin(), names.end());
        return names;
    }
    [[nodiscard]] tensor_io::SafetensorsFile file(const char* name) const {
        return tensor_io::SafetensorsFile(out_ / name);
    }
    static void expect_same(const Adapter& read, const Adapter& wanted, double tolerance) {
        ASSERT_EQ(read.deltas.size(), wanted.deltas.size());
        for (const auto& [linear, delta] : wanted.deltas) {
            test::expect_close(applied(read.deltas.at(linear)), applied(delta), tolerance, linear);
        }
        ASSERT_EQ(read.projection_weight.defined(), wanted.projection_weight.defined());
        if (wanted.projection_weight.defined()) {
            test::expect_equal(read.projection_weight, wanted.projection_weight, "weight");
            test::expect_equal(read.projection_bias, wanted.projection_bias, "bias");
        }
        EXPECT_EQ(read.info.in_channels, wanted.info.in_channels);
        EXPECT_EQ(read.info.id_map, wanted.info.id_map);
    }

    test::TempDirectory directory_;
    fs::path out_ = directory_ / "adapter";
};

TEST_F(ExportFormats, CarryEveryStrength) {
    for (const Format format : kFormats) {
        for (const double alpha : {2.0, 4.0, 8.0}) {
            const ExportReport report = write(adapter_with(alpha), format);
            EXPECT_EQ(report.largest_difference, 0.0);  // powers of two
            expect_same(read_adapter(out_), adapter_with(alpha), 0.0);
        }
        const Adapter stabilised = adapter_with(3.0, true);  // 3 / sqrt(4)
        EXPECT_EQ(stabilised.info.scale(), 1.5);
        EXPECT_LT(write(stabilised, format).relative_difference, 1e-6);
        expect_same(read_adapter(out_), stabilised, 1e-6);
    }
}

TEST_F(ExportFormats, ConvertIntoEachOther) {
    for (const Projection projection :
         {Projection::kNone, Projection::kLora, Projection::kLinearLora, Projection::kWhole}) {
        for (const std::int64_t channels : {32, 48}) {
            const Adapter adapter = adapter_with(8.0, false, projection, channels);
            for (const Format from : kFormats) {
                for (const Format to : kFormats) {
                    SCOPED_TRACE(format_name(from) + " to " + format_name(to));
                    write(adapter, from);
                    const ExportReport report =
                        export_adapter(read_adapter(out_), directory_ / "again", options_of(to));
                    EXPECT_EQ(report.largest_difference, 0.0);
                    expect_same(read_adapter(directory_ / "again"), adapter, 0.0);
                }
            }
        }
    }
}

TEST_F(ExportFormats, NameTheirFilesAsTheToolsDo) {
    const Adapter adapter = adapter_with(4.0);
    write(adapter, Format::kPeft);
    EXPECT_THAT(files(), ElementsAre("adapter_config.json", "adapter_model.safetensors",
                                     "matrix_adapter.json"));
    const json config = json::parse(read_text_file(out_ / "adapter_config.json"));
    EXPECT_EQ(config["peft_type"], "LORA");
    EXPECT_EQ(config["r"], 4);
    EXPECT_EQ(config["lora_alpha"], 4);
    EXPECT_EQ(config["target_modules"], json({kQ, kOut}));
    EXPECT_EQ(config["base_model_name_or_path"], "base");  // no directory of this machine
    write(adapter, Format::kKohya);
    EXPECT_THAT(files(), ElementsAre("matrix_adapter.json", "matrix_lora_kohya.safetensors"));
    const auto kohya = file("matrix_lora_kohya.safetensors");
    EXPECT_THAT(kohya.keys(),
                ElementsAre("lora_unet__transformer_blocks_1_attn1_to_q.alpha",
                            "lora_unet__transformer_blocks_1_attn1_to_q.lora_down.weight",
                            "lora_unet__transformer_blocks_1_attn1_to_q.lora_up.weight",
                            "lora_unet__transformer_blocks_2_attn1_to_out_0.alpha",
                            "lora_unet__transformer_blocks_2_attn1_to_out_0.lora_down.weight",
                            "lora_unet__transformer_blocks_2_attn1_to_out_0.lora_up.weight"));
    const at::Tensor alpha = kohya.tensor("lora_unet__transformer_blocks_1_attn1_to_q.alpha");
    EXPECT_EQ(alpha.dim(), 0);
    EXPECT_EQ(alpha.item<double>(), 4.0);
    EXPECT_EQ(json::parse(read_text_file(out_ / "matrix_adapter.json"))["format"], "kohya");
    write(adapter, Format::kComfyui);
    EXPECT_THAT(
        file("matrix_lora_comfyui.safetensors").keys(),
        ElementsAre("diffusion_model.blocks.1.q.alpha", "diffusion_model.blocks.1.q.lora_A.weight",
                    "diffusion_model.blocks.1.q.lora_B.weight",
                    "diffusion_model.blocks.2.attn_out.alpha",
                    "diffusion_model.blocks.2.attn_out.lora_A.weight",
                    "diffusion_model.blocks.2.attn_out.lora_B.weight"));
}

TEST_F(ExportFormats, SayWhatTheyCannotHold) {
    EXPECT_TRUE(write(adapter_with(4.0), Format::kKohya).notes.empty());
    ExportReport report = write(adapter_with(4.0, false, Projection::kLora), Format::kKohya);
    ASSERT_EQ(report.notes.size(), 1u);
    EXPECT_NE(report.notes[0].find("projection_lora.safetensors"), std::string::npos);
    EXPECT_THAT(files(), Contains("projection_lora.safetensors"));
    EXPECT_EQ(file("matrix_lora_kohya.safetensors").keys().size(), 6u);
    // A linear's delta, as in models with temporal patches, it can hold.
    report = write(adapter_with(4.0, false, Projection::kLinearLora), Format::kKohya);
    EXPECT_TRUE(report.notes.empty());
    EXPECT_TRUE(
        file("matrix_lora_kohya.safetensors").contains("lora_unet__patch_embed_proj.alpha"));

    report = write(adapter_with(4.0, false, Projection::kWhole), Format::kPeft);
    ASSERT_EQ(report.notes.size(), 1u);
    EXPECT_NE(report.notes[0].find("input_projection.safetensors"), std::string::npos);
}

TEST_F(ExportFormats, ComfyuiGetsTheProjectionOfItsChannels) {
    const std::string stem = "diffusion_model.patch_embed.proj";
    for (const std::int64_t channels : {32, 48}) {
        const Adapter whole = adapter_with(4.0, false, Projection::kWhole, channels);
        EXPECT_EQ(write(whole, Format::kComfyui).notes.size(), channels == 48 ? 1u : 0u);
        const auto lora = file("matrix_lora_comfyui.safetensors");
        test::expect_equal(lora.tensor(stem + ".set_weight"),
                           whole.projection_weight.narrow(1, 0, 32), "weight");
        test::expect_equal(lora.tensor(stem + ".bias.set_weight"), whole.projection_bias, "bias");
        write(adapter_with(4.0, false, Projection::kLora, channels), Format::kComfyui);
        EXPECT_EQ(file("matrix_lora_comfyui.safetensors").shape(stem + ".lora_A.weight"),
                  (std::vector<std::int64_t>{4, 32, 2, 2}));
        EXPECT_EQ(fs::exists(out_ / "id_map_lora.safetensors"), channels == 48);
    }
    Adapter both = adapter_with(4.0, false, Projection::kWhole);
    both.deltas[kProjection] = random_delta("p", 6, {32, 2, 2}, 4, 1.0);
    test::expect_error([&] { write(both, Format::kComfyui); }, {"patch_embed.proj", "merged"});
}

TEST_F(ExportFormats, CastAfterFolding) {
    const Adapter adapter = adapter_with(3.0, false, Projection::kWhole);
    for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16}) {
        const ExportReport report = write(adapter, Format::kComfyui, dtype);
        const auto lora = file("matrix_lora_comfyui.safetensors");
        const nn::LowRankDelta& delta = adapter.deltas.at(kQ);
        test::expect_equal(lora.tensor("diffusion_model.blocks.1.q.lora_B.weight"),
                           (delta.b * delta.scale).to(dtype), "B");
        EXPECT_EQ(lora.dtype("diffusion_model.blocks.1.q.lora_A.weight"), dtype);
        EXPECT_EQ(file("input_projection.safetensors").dtype("patch_embed.proj.weight"),
                  at::kFloat);
        EXPECT_GT(report.relative_difference, 1e-6);
        EXPECT_LT(report.relative_difference, export_tolerance(dtype));
    }
}

TEST_F(ExportFormats, RefuseWhatFloat16CannotHold) {
    Adapter adapter = adapter_with(4.0);
    adapter.deltas[kQ].b[0][0] = 7e4;
    test::expect_error(
        [&] { write(adapter, Format::kPeft, at::kHalf); },
        {"transformer_blocks.1.attn1.to_q.lora_B.weight", "not finite in float16", "bfloat16"});
    EXPECT_TRUE(directory_.names().empty());
    write(adapter, Format::kPeft, at::kBFloat16);
}

TEST_F(ExportFormats, RefuseWhatComesBackOtherwise) {
    // Two terms of 1e4 that cancel to 1: bfloat16 has nothing left of it.
    Adapter adapter = adapter_with(4.0);
    at::Tensor a = at::zeros({4, 6}), b = at::zeros({6, 4});
    a[0].fill_(1e4);
    a[1].fill_(-1e4 + 1);
    b.narrow(1, 0, 2).fill_(1.0);
    adapter.deltas[kQ] = {a, b, 1.0};
    test::expect_error([&] { write(adapter, Format::kKohya, at::kBFloat16); },
                       {out_.string(), "read back", "bfloat16", "--dtype float32"});
    EXPECT_TRUE(directory_.names().empty());
    write(adapter, Format::kKohya);
}

TEST_F(ExportFormats, AreUndoneByAnInspectionThatFails) {
    ExportOptions options = options_of(Format::kPeft);
    options.inspect = [](const Adapter& read) {
        EXPECT_EQ(read.deltas.size(), 2u);
        throw RunError("no");
    };
    test::expect_error([&] { export_adapter(adapter_with(4.0), out_, options); }, {"no"});
    EXPECT_TRUE(directory_.names().empty());
}

TEST_F(ExportFormats, ReplaceEachOther) {
    for (const Format format : kFormats) {
        ExportOptions options = options_of(format);
        options.card = [](const std::vector<std::string>& names) { return names.front(); };
        export_adapter(adapter_with(4.0, false, Projection::kLora, 48), out_, options);
        EXPECT_EQ(read_text_file(out_ / "README.md"),
                  format == Format::kPeft    ? "adapter_model.safetensors"
                  : format == Format::kKohya ? "matrix_lora_kohya.safetensors"
                                             : "id_map_lora.safetensors");
    }
}

}  // namespace
}  // namespace matrix::lora
