#include "kernels/self_check.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

namespace matrix::kernels {
namespace {

int calls = 0;

Comparison of_values(double by_kernel, double wanted) {
    ++calls;
    return {{at::tensor({0.0, by_kernel})}, {at::tensor({0.0, wanted})}};
}
Comparison agreeing(const at::TensorOptions&) {
    return of_values(-2, -2.0001);
}
Comparison off(const at::TensorOptions&) {
    return of_values(-2, -2.1);
}
Comparison far_off(const at::TensorOptions&) {
    return of_values(2, -2);
}
Comparison no_number(const at::TensorOptions&) {
    return of_values(NAN, 1);
}
Comparison throwing(const at::TensorOptions&) {
    ++calls;
    throw std::runtime_error("a CUDA kernel was not started: no kernel image\nbacktrace");
}

class SelfCheck : public testing::Test {
protected:
    SelfCheck() { calls = 0; }

    bool passed(const Compare& compare, at::ScalarType dtype = at::kFloat) {
        return checks_.passed("sums", at::TensorOptions().dtype(dtype), compare);
    }
    SelfChecks checks_;
};

TEST_F(SelfCheck, ComparesOnceForEachDtype) {
    EXPECT_TRUE(passed(agreeing));
    EXPECT_TRUE(passed(far_off)) << "was asked again";
    EXPECT_EQ(calls, 1);
    EXPECT_FALSE(passed(far_off, at::kBFloat16));
    EXPECT_EQ(calls, 2);
}

TEST_F(SelfCheck, IsLooserInBfloat16) {
    EXPECT_FALSE(passed(off));
    EXPECT_TRUE(passed(off, at::kBFloat16));
}

TEST_F(SelfCheck, RefusesWhatIsNoNumber) {
    EXPECT_FALSE(passed(no_number));
}

TEST_F(SelfCheck, ReportsAFailureOnceInOneLine) {
    testing::internal::CaptureStderr();
    EXPECT_FALSE(passed(throwing));
    EXPECT_FALSE(passed(throwing));
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(calls, 1);
    EXPECT_NE(text.find("the kernel for sums fails its check on cpu in Float and is not used: "
                        "a CUDA kernel was not started: no kernel image"),
              std::string::npos)
        << text;
    EXPECT_EQ(text.find("backtrace"), std::string::npos);
    EXPECT_EQ(text.find("sums", text.find("sums") + 1), std::string::npos) << text;
}

TEST(FaultOf, NamesTheTensorAndTheDifference) {
    const at::Tensor one = at::ones({2}), three = at::full({2}, 3.0);
    EXPECT_EQ(fault_of({{one, one}, {one, one}}, 0), "");
    EXPECT_EQ(fault_of({{one, one}, {one, three}}, 0.5), "its tensor 1 is off by 2 of 3");
    EXPECT_EQ(fault_of({{one, one}, {one, three}}, 0.7), "");
    EXPECT_THROW((void)fault_of({{one}, {}}, 1), c10::Error);
}

TEST(CheckValues, LeaveEveryGeneratorAsItWas) {
    at::manual_seed(1);
    const at::Tensor before = at::randn({3});
    at::manual_seed(1);
    const at::Tensor values = check_values({4}, at::kFloat, 2);
    EXPECT_TRUE(at::equal(at::randn({3}), before));
    EXPECT_TRUE(at::equal(check_values({4}, at::kFloat, 2), values));
    EXPECT_FALSE(at::equal(check_values({4}, at::kFloat, 3), values));
}

TEST(WithGradients, GivesTheValueAndEveryGradient) {
    const at::AutoGradMode grad_mode(false);
    const at::Tensor a = check_values({3}, at::kFloat, 1), b = check_values({3}, at::kFloat, 2);
    const auto results = with_gradients([](const auto& x) { return x[0] * x[1]; }, {a, b});
    ASSERT_EQ(results.size(), 3u);
    EXPECT_TRUE(at::equal(results[0], a * b));
    EXPECT_TRUE(at::allclose(results[1] * a, results[2] * b));
    EXPECT_FALSE(at::equal(results[1], b)) << "the value's gradient is random";
}

}  // namespace
}  // namespace matrix::kernels
