#include "matrix/tensor_io/safetensors.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "matrix/core/files.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::tensor_io {
namespace {

namespace fs = std::filesystem;
using test::expect_equal;
using test::expect_error;
using test::TempDirectory;
using ::testing::ElementsAre;

const std::vector<std::pair<std::string, at::ScalarType>> kDtypes{{"f64", at::kDouble},
                                                                  {"f32", at::kFloat},
                                                                  {"f16", at::kHalf},
                                                                  {"bf16", at::kBFloat16},
                                                                  {"f8_e4m3", at::kFloat8_e4m3fn},
                                                                  {"f8_e5m2", at::kFloat8_e5m2},
                                                                  {"i64", at::kLong},
                                                                  {"i32", at::kInt},
                                                                  {"i16", at::kShort},
                                                                  {"i8", at::kChar},
                                                                  {"u64", at::kUInt64},
                                                                  {"u32", at::kUInt32},
                                                                  {"u16", at::kUInt16},
                                                                  {"u8", at::kByte}};

TensorMap every_dtype() {
    TensorMap tensors;
    for (const auto& [name, dtype] : kDtypes) {
        tensors[name] = at::arange(1, 7, at::kFloat).reshape({2, 3}).to(dtype);
    }
    tensors["bool"] = at::tensor({1, 0, 1}).to(at::kBool);
    tensors["scalar"] = at::scalar_tensor(42, at::kLong);
    tensors["empty"] = at::zeros({0, 4});
    return tensors;
}

TEST(Safetensors, ReadsWhatThePythonPackageWrites) {
    // scripts/fixtures/make_tensor_io.py
    const SafetensorsFile file(MATRIX_FIXTURES "/tensor_io/python.safetensors");
    const TensorMap expected = every_dtype();
    EXPECT_EQ(file.keys().size(), expected.size());
    for (const auto& [name, tensor] : expected) {
        expect_equal(file.tensor(name), tensor, name);
        EXPECT_EQ(file.dtype(name), tensor.scalar_type()) << name;
        EXPECT_EQ(at::IntArrayRef(file.shape(name)), tensor.sizes()) << name;
    }
    EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}, {"note", "\xC3\xBCmlaut \"quoted\""}}));
}

TEST(Safetensors, WritesWhatThePythonPackageWrites) {
    const TempDirectory dir;
    const SafetensorsFile reference(MATRIX_FIXTURES "/tensor_io/python.safetensors");
    write_safetensors(dir / "x.safetensors", every_dtype(), reference.metadata());
    const SafetensorsFile file(dir / "x.safetensors");
    EXPECT_EQ(file.metadata(), reference.metadata());
    EXPECT_EQ(file.keys(), reference.keys());
    for (const auto& [name, tensor] : file.all()) {
        expect_equal(tensor, reference.tensor(name), name);
    }
}

TEST(Safetensors, DataIsAlignedAndTensorsAreViews) {
    const TempDirectory dir;
    const fs::path path = dir / "x.safetensors";
    write_safetensors(path, {{"a", at::ones({3}, at::kByte)}, {"b", at::ones({2}, at::kDouble)}});
    const std::string text = read_text_file(path);
    std::uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, text.data(), 8);
    EXPECT_EQ(header_bytes % 8, 0u);
    EXPECT_EQ(text.size(), 8 + header_bytes + 16 + 3);
    EXPECT_EQ(text.find("\"b\""), 9u);
    const SafetensorsFile file(path);
    EXPECT_EQ(file.tensor("b").data_ptr(), file.tensor("b").data_ptr());
}

TEST(Safetensors, TensorsOutliveTheirFileAndMayBeWrittenTo) {
    const TempDirectory dir;
    const fs::path path = dir / "x.safetensors";
    write_safetensors(path, {{"a", at::arange(4, at::kFloat)}});
    at::Tensor a;
    {
        const SafetensorsFile file(path);
        a = file.tensor("a");
    }
    fs::remove(path);
    a.mul_(2);
    expect_equal(a, at::arange(4, at::kFloat) * 2, "a");
}

TEST(Safetensors, WritingToATensorLeavesTheFileAlone) {
    const TempDirectory dir;
    const fs::path path = dir / "x.safetensors";
    write_safetensors(path, {{"a", at::ones({4})}});
    SafetensorsFile(path).tensor("a").zero_();
    expect_equal(SafetensorsFile(path).tensor("a"), at::ones({4}), "a");
}

TEST(Safetensors, MisalignedTensorsAreCopied) {
    const TempDirectory dir;
    const fs::path path = dir / "x.safetensors";
    const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                               R"("b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
    const std::uint64_t bytes = header.size();
    const float values[2] = {1.5f, -2.0f};
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(&bytes), 8)
        .write(header.data(), static_cast<std::streamsize>(header.size()))
        .write("\x07", 1)
        .write(reinterpret_cast<const char*>(values), 8);
    const SafetensorsFile file(path);
    EXPECT_EQ(file.tensor("a").item<int>(), 7);
    expect_equal(file.tensor("b"), at::tensor({1.5f, -2.0f}), "b");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.tensor("b").data_ptr()) % 4, 0u);
}

TEST(Safetensors, WritesViewsByValue) {
    const TempDirectory dir;
    const at::Tensor x = at::arange(6, at::kFloat).reshape({2, 3});
    write_safetensors(dir / "x.safetensors", {{"t", x.t()}, {"row", x[1].requires_grad_(false)}});
    const SafetensorsFile file(dir / "x.safetensors");
    expect_equal(file.tensor("t"), x.t().contiguous(), "t");
    expect_equal(file.tensor("row"), x[1], "row");
}

TEST(Safetensors, NoTensorsAtAllIsAFile) {
    const TempDirectory dir;
    write_safetensors(dir / "x.safetensors", {}, {{"step", "3"}});
    const SafetensorsFile file(dir / "x.safetensors");
    EXPECT_TRUE(file.keys().empty());
    EXPECT_EQ(file.metadata().at("step"), "3");
}

TEST(Safetensors, FaultsOfTheCallerAreNamed) {
    const TempDirectory dir;
    const fs::path path = dir / "x.safetensors";
    EXPECT_ANY_THROW(write_safetensors(path, {{"a", at::Tensor()}}));
    EXPECT_ANY_THROW(write_safetensors(path, {{"a", at::ones({1}, at::kComplexFloat)}}));
    EXPECT_ANY_THROW(write_safetensors(path, {{"__metadata__", at::ones({1})}}));
    expect_error(
        [&] {
            write_safetensors(path, {}, {{"a", "\xff"}});
        },
        {path.string(), "not valid UTF-8"});
    EXPECT_TRUE(dir.names().empty());
    write_safetensors(path, {{"a", at::ones({1})}});
    expect_error([&] { (void)SafetensorsFile(path).tensor("b"); },
                 {path.string(), "no tensor \"b\""});
}

}  // namespace
}  // namespace matrix::tensor_io
