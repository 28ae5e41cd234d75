#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "lora/adapters.h"
#include "matrix/core/files.h"
#include "matrix/lora/export.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::lora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using tensor_io::Metadata;
using tensor_io::TensorMap;
using testing::values;

constexpr const char* kA = "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight";
constexpr const char* kB = "transformer.transformer_blocks.0.attn1.to_q.lora_B.weight";

TensorMap pair(std::int64_t rank = 2) {
    return {{kA, values("a", {rank, 5})}, {kB, values("b", {4, rank})}};
}

class HostileAdapters : public ::testing::Test {
protected:
    void refused(const TensorMap& tensors, std::initializer_list<std::string_view> parts,
                 const Metadata& metadata = {}) const {
        tensor_io::write_safetensors(file_, tensors, metadata);
        refused(parts);
    }
    void refused(std::initializer_list<std::string_view> parts) const {
        const std::string message =
            test::expect_error([&] { static_cast<void>(read_adapter(file_)); }, parts);
        EXPECT_NE(message.find("a.safetensors: "), std::string::npos) << message;
    }
    void refused_header(const std::string& text,
                        std::initializer_list<std::string_view> parts) const {
        SCOPED_TRACE(text);
        refused(pair(), parts, {{"lora_adapter_metadata", text}});
    }

    test::TempDirectory directory_;
    fs::path file_ = directory_ / "a.safetensors";
};

TEST_F(HostileAdapters, FilesThatAreNone) {
    refused({"a.safetensors"});
    std::ofstream(file_).close();
    refused({"a.safetensors"});
    const std::string whole = read_text_file(testing::fixture("plain.safetensors"));
    for (const std::size_t length : {7u, 100u, 6000u}) {
        std::ofstream(file_, std::ios::binary | std::ios::trunc) << whole.substr(0, length);
        refused({"a.safetensors"});
    }
    refused(TensorMap{}, {"no tensors"});
}

TEST_F(HostileAdapters, Keys) {
    for (const char* key : {"transformer.transformer_blocks.0.attn1.to_q.alpha",
                            "transformer.patch_embed.proj.weight", "transformer.lora_A.weight",
                            "transformer..lora_A.weight.x", "lora_A.weight", "",
                            "text_encoder.x.lora_A.weight", "lora_unet_x.lora_down.weight",
                            "transformer.x.lora_A.default.weight", "transformer.x.lora_B.bias"}) {
        TensorMap tensors = pair();
        tensors[key] = values("x", {4, 2});
        refused(tensors, {std::string(key) + ": not a LoRA tensor"});
    }
    TensorMap tensors = pair();
    tensors.erase(kB);
    refused(tensors, {kA, "half a pair", kB});
    tensors = pair();
    tensors.erase(kA);
    refused(tensors, {kB, "half a pair", kA});
    const std::string name(300, 'x');
    refused({{"transformer." + name + ".lora_A.weight", values("x", {1, 1})}}, {"xxx...", "255"});
    refused({{name + "\n", values("x", {1, 1})}},
            {"a.safetensors: " + name.substr(0, 80) + "...: not a"});
    refused({{"x\ny\x1b", values("x", {1, 1})}},
            {"a.safetensors: x\\ny\\u001b: not a LoRA tensor"});
}

TEST_F(HostileAdapters, Shapes) {
    const auto shapes = [&](at::IntArrayRef a, at::IntArrayRef b,
                            std::initializer_list<std::string_view> parts) {
        refused({{kA, at::zeros(a)}, {kB, at::zeros(b)}}, parts);
    };
    shapes({0, 5}, {4, 0}, {kA, "a rank of 0"});
    shapes({1, 1 << 16}, {(1 << 15) + 1, 1}, {kB, "[1, 65536]", "more than 2^31 values"});
    shapes({2, 5}, {4, 0}, {kB, "a rank of 0"});
    shapes({2, 5}, {4, 3}, {kB, "rank 3 differs from lora_A's 2"});
    shapes({2, 0}, {4, 2}, {kA, "is empty"});
    shapes({2, 5}, {0, 2}, {kB, "is empty"});
    shapes({2}, {4, 2}, {kA, "[2]"});
    shapes({}, {}, {kA, "[]"});
    shapes({2, 5, 1}, {4, 2, 1}, {kA, "[2, 5, 1]"});
    shapes({2, 5}, {4, 2, 1, 1}, {kB, "[4, 2, 1, 1]", "[2, 5]"});
    shapes({2, 5, 2, 2}, {4, 2}, {kB, "[4, 2]"});
    shapes({2, 5, 2, 2}, {4, 2, 2, 2}, {kB, "[4, 2, 2, 2]", "[out, r, 1, 1]"});
}

TEST_F(HostileAdapters, Values) {
    for (const double value : {std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity(), 1e300}) {
        TensorMap tensors = pair();
        tensors[kB] = tensors[kB].to(at::kDouble);
        tensors[kB][1][1] = value;
        refused(tensors, {kB, "not finite"});
    }
    TensorMap tensors = pair();
    tensors[kA] = tensors[kA].to(at::kLong);
    refused(tensors, {kA, "int64", "not a floating dtype"});
}

TEST_F(HostileAdapters, HeaderThatIsNoConfiguration) {
    const std::string entry = "lora_adapter_metadata";
    for (const char* text : {"{", "[]", "3", "null", "{\"transformer.r\": 2, \"transformer.r\": 2}",
                             "{\"transformer.r\": 2} x"}) {
        refused_header(text, {entry});
    }
    refused_header("{\"x\": " + std::string(100000, '['), {entry});
    for (const char* rank :
         {"0", "-1", "2.0", "2.5", "\"2\"", "true", "[]", "1e99", "9223372036854775808"}) {
        refused_header(std::string("{\"transformer.r\": ") + rank + "}",
                       {entry, "transformer.r: expected an integer of 1 or more"});
    }
    for (const char* rank : {"1", "3", "9223372036854775807"}) {
        refused_header(std::string("{\"transformer.r\": ") + rank + "}",
                       {kA, "rank 2 differs from the header's r = ", rank});
    }
    for (const char* alpha : {"\"2\"", "true", "[]", "1e999"}) {
        refused_header(
            std::string("{\"transformer.r\": 2, \"transformer.lora_alpha\": ") + alpha + "}",
            {entry});
    }
    refused_header(R"({"transformer.r": 2, "transformer.use_rslora": 1})",
                   {"transformer.use_rslora: expected true or false"});
    refused_header(R"({"transformer.r": 2, "transformer.use_dora": true})",
                   {"transformer.use_dora", "not supported"});
    refused_header(R"({"transformer.r": 2, "transformer.init_lora_weights": "pissa_niter_4"})",
                   {"transformer.init_lora_weights", "change the base weights"});
    refused_header(R"({"transformer.r": 2, "transformer.rank_pattern": ["to_q"]})",
                   {"transformer.rank_pattern: expected an object"});
    refused_header(R"({"transformer.r": 2, "transformer.rank_pattern": {"to_q": 0}})",
                   {"transformer.rank_pattern.to_q"});
    refused_header(R"({"transformer.r": 2, "transformer.rank_pattern": {"to_q": 3}})",
                   {kA, "header's r = 3"});
    refused_header(R"({"transformer.r": 2, "transformer.alpha_pattern": {"to_q": "x"}})",
                   {"transformer.alpha_pattern.to_q: expected a finite number"});
    refused_header(R"({"transformer.r": 2, "transformer.alpha_pattern": {"(": 1}})",
                   {"transformer.alpha_pattern.(", "a ( without its )"});
}

// What peft assumes where its configuration says nothing.
TEST_F(HostileAdapters, HeaderThatLeavesThingsOut) {
    refused_header("{}", {kA, "rank 2 differs from the header's r = 8"});
    tensor_io::write_safetensors(file_, pair(8), {{"lora_adapter_metadata", "{}"}});
    EXPECT_EQ(read_adapter(file_).deltas.begin()->second.scale, 1.0);
    tensor_io::write_safetensors(
        file_, pair(),
        {{"lora_adapter_metadata", R"({"transformer.r": 2, "transformer.rank_pattern": null})"}});
    EXPECT_EQ(read_adapter(file_).deltas.begin()->second.scale, 4.0);
}

TEST_F(HostileAdapters, DirectoriesWithoutAnAdapter) {
    test::expect_error([&] { static_cast<void>(read_adapter(directory_.path())); },
                       {directory_.path().string(), "no adapter in it"});
    fs::create_directory(directory_ / "checkpoints");
    test::expect_error([&] { static_cast<void>(read_adapter(directory_.path())); },
                       {"name one of its checkpoints"});
}

/// An adapter directory with all three files, to be damaged.
class HostileDirectories : public ::testing::Test {
protected:
    HostileDirectories() {
        Adapter adapter;
        adapter.info.in_channels = 48;
        adapter.info.id_map = true;
        adapter.deltas["patch_embed.proj"] = testing::random_delta("p", 6, {48, 2, 2}, 2, 1.0);
        adapter.projection_weight = values("w", {6, 48, 2, 2});
        adapter.projection_bias = values("bias", {6});
        export_adapter(adapter, path_);
        static_cast<void>(read_adapter(path_));
    }
    void refused(std::initializer_list<std::string_view> parts) const {
        test::expect_error([&] { static_cast<void>(read_adapter(path_)); }, parts);
    }
    void refused_manifest(const json& patch, std::initializer_list<std::string_view> parts) const {
        SCOPED_TRACE(patch.dump());
        const std::string text = read_text_file(path_ / "matrix_adapter.json");
        json manifest = json::parse(text);
        manifest.merge_patch(patch);
        write_file_atomically(path_ / "matrix_adapter.json", manifest.dump());
        refused({"matrix_adapter.json: "});
        refused(parts);
        write_file_atomically(path_ / "matrix_adapter.json", text);
    }
    void refused_file(const char* name, const TensorMap& tensors,
                      std::initializer_list<std::string_view> parts) const {
        const std::string content = read_text_file(path_ / name);
        tensor_io::write_safetensors(path_ / name, tensors);
        refused(parts);
        write_file_atomically(path_ / name, content);
    }

    test::TempDirectory directory_;
    fs::path path_ = directory_ / "adapter";
};

TEST_F(HostileDirectories, MissingFiles) {
    for (const char* name : {"pytorch_lora_weights.safetensors", "input_projection.safetensors",
                             "id_map_lora.safetensors"}) {
        fs::rename(path_ / name, directory_ / "aside");
        refused({"matrix_adapter.json", name, "which is not in"});
        fs::rename(directory_ / "aside", path_ / name);
    }
}

TEST_F(HostileDirectories, Manifests) {
    write_file_atomically(directory_ / "m", "{");
    refused_manifest({{"format_version", 2}}, {"format_version", "version 1"});
    refused_manifest({{"files", json::array()}}, {"names no file"});
    refused_manifest({{"files", {"../adapter.safetensors"}}}, {"files", "../adapter.safetensors"});
    refused_manifest({{"files", "x"}}, {"files"});
    refused_manifest({{"surprise", 1}}, {"surprise"});
    refused_manifest({{"r", 3}, {"alpha", 3}}, {"r is 3", "rank 2"});
    refused_manifest({{"r", -1}}, {"r: "});
    refused_manifest({{"r", 2.5}}, {"r: "});
    refused_manifest({{"alpha", 1}}, {"alpha", "differs from r"});
    refused_manifest({{"in_channels", 32}}, {"in_channels is 32", "patch_embed.proj has 48"});
    refused_manifest({{"id_map", "yes"}}, {"id_map"});
    const json manifest = json::parse(read_text_file(path_ / "matrix_adapter.json"));
    for (const auto& [name, value] : manifest.items()) {
        refused_manifest({{name, nullptr}}, {name + ": missing"});
    }
    write_file_atomically(path_ / "matrix_adapter.json", "[]");
    refused({"matrix_adapter.json", "object"});
    write_file_atomically(path_ / "matrix_adapter.json", "");
    refused({"matrix_adapter.json"});
}

TEST_F(HostileDirectories, Sidecars) {
    const char* key = "transformer.patch_embed.proj.lora_A.weight";
    const char* id_map = "id_map_lora.safetensors";
    refused_file(id_map, {}, {id_map, key, "is missing"});
    refused_file(id_map, {{key, values("x", {3, 16, 2, 2})}},
                 {id_map, key, "[3, 16, 2, 2]", "[2, 32, 2, 2]"});
    refused_file(id_map, {{key, values("x", {2, 16})}}, {key, "[2, 16]"});
    refused_file(id_map, {{key, values("x", {2, 16, 2, 2})}, {"y", values("y", {1})}},
                 {"y: not a tensor"});
    refused_file(id_map, {{key, values("x", {2, 8, 2, 2})}},
                 {"matrix_adapter.json", "in_channels is 48", "has 40"});
    const char* projection = "input_projection.safetensors";
    refused_file(projection, {}, {projection, "patch_embed.proj.weight is missing"});
    refused_file(projection, {{"patch_embed.proj.weight", values("w", {6})}},
                 {"patch_embed.proj.weight", "[6]"});
    refused_file(projection, {{"patch_embed.proj.bias", values("w", {6})}},
                 {"patch_embed.proj.bias", "without"});
    refused_file(projection, {{"transformer.patch_embed.proj.weight", values("w", {6, 48, 2, 2})}},
                 {"not a tensor of the input projection"});
}

}  // namespace
}  // namespace matrix::lora
