#include "matrix/core/shape.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/errors.h"

namespace matrix {
namespace {

using test::expect_error;

TEST(Shape, ExpectShapeNamesWhatCameAndWhatWasWanted) {
    const at::Tensor x = at::zeros({2, 3});
    EXPECT_NO_THROW(expect_shape(x, {2, 3}, "x"));
    EXPECT_NO_THROW(expect_shape(x, {-1, 3}, "x"));
    EXPECT_EQ(expect_error([&] {
                  expect_shape(x, {-1, 4}, "latents");
              }),
              "latents: shape [2, 3], expected [any, 4]");
    EXPECT_EQ(expect_error([&] {
                  expect_shape(x, {2, 3, 1}, "x");
              }),
              "x: shape [2, 3], expected [2, 3, 1]");
    EXPECT_EQ(expect_error([&] { expect_shape({}, {2}, "x"); }), "x: missing, expected shape [2]");
}

TEST(Shape, TextsAreAsPyTorchSpellsThem) {
    EXPECT_EQ(shape_text({}), "[]");
    EXPECT_EQ(shape_text({2, 13}), "[2, 13]");
    EXPECT_EQ(dtype_text(at::kBFloat16), "bfloat16");
    EXPECT_EQ(dtype_text(at::kByte), "uint8");
    EXPECT_EQ(parse_compute_dtype("float32", "x"), at::kFloat);
    EXPECT_EQ(parse_compute_dtype("bfloat16", "x"), at::kBFloat16);
    EXPECT_EQ(expect_error<UsageError>([] { (void)parse_compute_dtype("fp16", "model.dtype"); }),
              "model.dtype: \"fp16\" is not one of \"float32\", \"bfloat16\"");
}

TEST(Errors, CarryEveryFaultAndTheExitCode) {
    const RunError one("a");
    EXPECT_EQ(one.exit_code(), 1);
    EXPECT_STREQ(one.what(), "a");
    const UsageError two(std::vector<std::string>{"a", "b"});
    EXPECT_EQ(two.exit_code(), 2);
    EXPECT_EQ(two.faults().size(), 2u);
    EXPECT_STREQ(two.what(), "a\nb");
}

}  // namespace
}  // namespace matrix
