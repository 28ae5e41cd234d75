#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>

namespace matrix::test {

/// max|actual - expected| / max|expected|, in float64; infinite where a value is not finite. Where
/// `expected` is all zeros, the absolute difference.
inline double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
    if (expected.numel() == 0) {
        return 0;
    }
    const at::Tensor a = actual.detach().to(at::kCPU, at::kDouble);
    const at::Tensor e = expected.detach().to(at::kCPU, at::kDouble);
    const auto difference = (a - e).abs().max().item<double>();
    const auto scale = e.abs().max().item<double>();
    if (!std::isfinite(difference) || !std::isfinite(scale)) {
        return std::numeric_limits<double>::infinity();
    }
    return scale > 0 ? difference / scale : difference;
}

/// Same shape, and relative_error at most `relative_tolerance`.
inline void expect_close(const at::Tensor& actual, const at::Tensor& expected,
                         double relative_tolerance, std::string_view name) {
    ASSERT_TRUE(actual.defined()) << name << " is undefined";
    ASSERT_TRUE(expected.defined()) << name << ": the reference is undefined";
    ASSERT_EQ(actual.sizes(), expected.sizes()) << name;
    EXPECT_LE(relative_error(actual, expected), relative_tolerance) << name;
}

/// Same dtype, same shape, same bits.
inline void expect_equal(const at::Tensor& actual, const at::Tensor& expected,
                         std::string_view name) {
    ASSERT_TRUE(actual.defined()) << name << " is undefined";
    ASSERT_TRUE(expected.defined()) << name << ": the reference is undefined";
    ASSERT_EQ(actual.scalar_type(), expected.scalar_type()) << name;
    ASSERT_EQ(actual.sizes(), expected.sizes()) << name;
    const at::Tensor a = actual.detach().cpu().contiguous();
    const at::Tensor e = expected.detach().cpu().contiguous();
    EXPECT_TRUE(a.nbytes() == 0 ||
                std::memcmp(a.const_data_ptr(), e.const_data_ptr(), a.nbytes()) == 0)
        << name << ": values differ";
}

}  // namespace matrix::test
