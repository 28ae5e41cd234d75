#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "matrix/core/files.h"
#include "matrix/tensor_io/weights.h"
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
using ::testing::HasSubstr;

FileWeights open(const TempDirectory& dir, at::ScalarType dtype = at::kFloat) {
    return {dir.path(), "model", dtype, at::kCPU};
}

void write_shards(const TempDirectory& dir) {
    write_safetensors(dir / "model-1.safetensors", {{"a", at::full({2}, 1.0)}});
    write_safetensors(dir / "model-2.safetensors", {{"b", at::full({3}, 2.0)}});
}

void write_index(const TempDirectory& dir, const std::string& weight_map) {
    write_file_atomically(dir / "model.safetensors.index.json",
                          R"({"metadata": {"total_size": 20}, "weight_map": )" + weight_map + "}");
}

TEST(FileWeights, TakesFromOneFile) {
    const TempDirectory dir;
    const at::Tensor a = at::arange(6, at::kFloat).reshape({2, 3});
    write_safetensors(dir / "model.safetensors", {{"a", a}, {"b", at::ones({1}, at::kBFloat16)}});
    FileWeights weights = open(dir);
    EXPECT_TRUE(weights.has("a"));
    EXPECT_FALSE(weights.has("c"));
    expect_equal(weights.take("a", {2, 3}), a, "a");
    expect_equal(weights.take("b", {1}), at::ones({1}), "b");
    EXPECT_NO_THROW(weights.finish());
    // No copy where the file has the dtype already: the same pages are handed out again.
    EXPECT_EQ(weights.take("a", {2, 3}).data_ptr(), weights.take("a", {2, 3}).data_ptr());
    EXPECT_EQ(open(dir, at::kBFloat16).take("a", {2, 3}).scalar_type(), at::kBFloat16);
}

TEST(FileWeights, TakesFromShards) {
    const TempDirectory dir;
    write_shards(dir);
    write_index(dir, R"({"a": "model-1.safetensors", "b": "model-2.safetensors"})");
    FileWeights weights = open(dir);
    expect_equal(weights.take("a", {2}), at::full({2}, 1.0), "a");
    expect_equal(weights.take("b", {3}), at::full({3}, 2.0), "b");
    EXPECT_NO_THROW(weights.finish());
}

TEST(FileWeights, TheIndexGoesBeforeASingleFile) {
    const TempDirectory dir;
    write_shards(dir);
    write_index(dir, R"({"a": "model-1.safetensors", "b": "model-2.safetensors"})");
    write_safetensors(dir / "model.safetensors", {{"stale", at::ones({1})}});
    EXPECT_TRUE(open(dir).has("a"));
    EXPECT_FALSE(open(dir).has("stale"));
}

TEST(FileWeights, ReportsEveryFaultAtOnce) {
    const TempDirectory dir;
    const std::string file = (dir / "model.safetensors").string();
    write_safetensors(file, {{"good", at::ones({2})},
                             {"shape", at::ones({2, 3})},
                             {"integer", at::ones({2}, at::kInt)},
                             {"extra", at::ones({1})},
                             {"good.copy", at::ones({2})},
                             {"good.other", at::ones({2}) * 2},
                             {"good.copy2", at::ones({2})}});
    FileWeights weights = open(dir);
    weights.allow_copy("good.copy", "good");
    weights.allow_copy("good.other", "good");
    weights.allow_copy("not.there", "good");
    EXPECT_TRUE(weights.take("good", {2}).defined());
    EXPECT_FALSE(weights.take("shape", {3, 2}).defined());
    EXPECT_FALSE(weights.take("integer", {2}).defined());
    EXPECT_FALSE(weights.take("none", {4}).defined());
    try {
        weights.finish();
        FAIL() << "no fault";
    } catch (const RunError& error) {
        EXPECT_THAT(error.faults(),
                    ElementsAre(file + ": tensor \"good.other\": is no copy of \"good\"",
                                file + ": tensor \"shape\": shape [2, 3], expected [3, 2]",
                                file + ": tensor \"integer\": dtype int32, expected floating point",
                                dir.path().string() + ": missing tensor \"none\" [4]",
                                file + ": unexpected tensor \"extra\" [1]",
                                file + ": unexpected tensor \"good.copy2\" [2]"));
    }
}

TEST(FileWeights, ExpectChecksAsTakeDoes) {
    const TempDirectory dir;
    write_safetensors(dir / "model.safetensors", {{"a", at::ones({2})}, {"b", at::ones({3})}});
    FileWeights weights = open(dir);
    weights.expect("a", {2});
    weights.expect("b", {3});
    EXPECT_NO_THROW(weights.finish());
    weights.expect("b", {4});
    weights.expect("c", {1});
    expect_error([&] { weights.finish(); },
                 {"\"b\": shape [3], expected [4]", "missing tensor \"c\" [1]"});
}

TEST(FileWeights, NoFileAtAll) {
    const TempDirectory dir;
    expect_error([&] { open(dir); }, {dir.path().string(),
                                      "neither model.safetensors nor "
                                      "model.safetensors.index.json"});
}

TEST(FileWeights, ShardsAndIndexMustAgree) {
    const TempDirectory dir;
    write_shards(dir);
    write_index(dir, R"({"a": "model-1.safetensors", "c": "model-2.safetensors",
                         "d": "model-3.safetensors"})");
    const std::string shard = (dir / "model-2.safetensors").string();
    expect_error([&] { open(dir); },
                 {shard + ": tensor \"b\" is not listed for this file in the index",
                  shard + ": tensor \"c\" is listed in the index but not in the file",
                  (dir / "model-3.safetensors").string() + ": cannot open: No such file"});
    // The same key in a second shard, which the index does not name for it.
    write_safetensors(dir / "model-2.safetensors", {{"a", at::ones({2})}, {"b", at::ones({3})}});
    write_index(dir, R"({"a": "model-1.safetensors", "b": "model-2.safetensors"})");
    expect_error([&] { open(dir); }, {shard + ": tensor \"a\" is not listed for this file"});
}

class BadIndex : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(BadIndex, IsAnErrorThatNamesIt) {
    const TempDirectory dir;
    write_shards(dir);
    const fs::path index = dir / "model.safetensors.index.json";
    write_file_atomically(index, GetParam().first);
    expect_error([&] { open(dir); }, {index.string(), GetParam().second});
}

INSTANTIATE_TEST_SUITE_P(
    All, BadIndex,
    ::testing::Values(
        std::pair{"", "malformed JSON"}, std::pair{"[]", "no object \"weight_map\""},
        std::pair{"{}", "no object \"weight_map\""},
        std::pair{R"({"weight_map": {}})", "no object \"weight_map\""},
        std::pair{R"({"weight_map": ["a"]})", "no object \"weight_map\""},
        std::pair{R"({"weight_map": {"a": 1}})", "\"a\": its shard is not the plain name"},
        std::pair{R"({"weight_map": {"a": "x", "a": "y"}})", "the key \"a\" stands twice"},
        std::pair{R"({"weight_map": {"a": "../x.safetensors"}})", "\"../x.safetensors\" is not"},
        std::pair{R"({"weight_map": {"a": "/etc/passwd"}})", "\"/etc/passwd\" is not the plain"},
        std::pair{R"({"weight_map": {"a": "sub/x"}})", "\"sub/x\" is not the plain name"},
        std::pair{R"({"weight_map": {"a": ".."}})", "\"..\" is not the plain name"},
        std::pair{R"({"weight_map": {"a": ""}})", "\"\" is not the plain name"},
        std::pair{R"({"weight_map": {"a": "x\u0000y"}})", "is not the plain name"}));

TEST(CountingWeights, CountsWithoutMemory) {
    CountingWeights weights;
    const at::Tensor a = weights.take("a", {1'000'000, 1'000'000});
    EXPECT_TRUE(a.is_meta());
    EXPECT_EQ(a.sizes(), (at::IntArrayRef{1'000'000, 1'000'000}));
    (void)weights.take("b", {5});
    (void)weights.take("b", {5});
    EXPECT_EQ(weights.num_elements(), 1'000'000'000'005);
    EXPECT_EQ(weights.shapes().size(), 2u);
}

TEST(GeneratedWeights, GeneratesEachKeyOnce) {
    int calls = 0;
    GeneratedWeights weights([&](const std::string& key, at::IntArrayRef shape) {
        ++calls;
        return at::full(shape, static_cast<double>(key.size()));
    });
    const at::Tensor first = weights.take("abc", {2});
    EXPECT_EQ(first[0].item<float>(), 3.0f);
    EXPECT_TRUE(weights.take("abc", {2}).is_same(first));
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(weights.tensors().size(), 1u);
    EXPECT_ANY_THROW((void)weights.take("abc", {3}));
}

}  // namespace
}  // namespace matrix::tensor_io
