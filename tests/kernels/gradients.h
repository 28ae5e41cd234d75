#pragma once

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>
#include <vector>

#include "support/tensors.h"

namespace matrix::test {

using Compute = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

struct Differentiated {
    at::Tensor output;
    std::vector<at::Tensor> grads;
};

/// The output of `compute` on fresh leaves, and the gradients of sum(output * cotangent).
inline Differentiated differentiate(const Compute& compute, const std::vector<at::Tensor>& values,
                                    const at::Tensor& cotangent) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& value : values) {
        leaves.push_back(value.detach().clone().set_requires_grad(true));
    }
    const at::Tensor output = compute(leaves);
    return {output.detach(),
            torch::autograd::grad({output}, leaves, {cotangent.to(output.scalar_type())})};
}

/// The fused function in its dtype against plain operations in float64: output and gradients.
inline void expect_same_function(const Compute& fused, const Compute& plain,
                                 const std::vector<at::Tensor>& values, const at::Tensor& cotangent,
                                 double tolerance) {
    const Differentiated actual = differentiate(fused, values, cotangent);
    std::vector<at::Tensor> wide;
    for (const at::Tensor& value : values) {
        wide.push_back(value.to(at::kDouble));
    }
    const Differentiated expected = differentiate(plain, wide, cotangent.to(at::kDouble));
    expect_close(actual.output, expected.output, tolerance, "output");
    for (std::size_t i = 0; i < values.size(); ++i) {
        expect_close(actual.grads[i], expected.grads[i], tolerance,
                     "gradient " + std::to_string(i));
    }
}

/// Root of the mean squared difference, in float64.
inline double rms_error(const at::Tensor& actual, const at::Tensor& expected) {
    return (actual.to(at::kDouble) - expected).square().mean().sqrt().item<double>();
}

/// In bfloat16 the fused function is no farther from the definition in float64 than operations that
/// round one by one are: output and gradients. A thousandth is for those that round as often.
inline void expect_no_farther_in_bfloat16(const Compute& fused, const Compute& plain,
                                          const std::vector<at::Tensor>& values,
                                          const at::Tensor& cotangent) {
    std::vector<at::Tensor> narrow, wide;
    for (const at::Tensor& value : values) {
        narrow.push_back(value.to(at::kBFloat16));
        wide.push_back(narrow.back().to(at::kDouble));
    }
    const at::Tensor rounded = cotangent.to(at::kBFloat16);
    const Differentiated actual = differentiate(fused, narrow, rounded);
    const Differentiated chain = differentiate(plain, narrow, rounded);
    const Differentiated expected = differentiate(plain, wide, rounded);
    EXPECT_EQ(actual.output.scalar_type(), at::kBFloat16);
    EXPECT_LE(rms_error(actual.output, expected.output),
              1.001 * rms_error(chain.output, expected.output));
    for (std::size_t i = 0; i < values.size(); ++i) {
        EXPECT_EQ(actual.grads[i].scalar_type(), at::kBFloat16);
        EXPECT_LE(rms_error(actual.grads[i], expected.grads[i]),
                  1.001 * rms_error(chain.grads[i], expected.grads[i]))
            << "gradient " << i;
    }
}

/// Output and gradients have the same bits on one thread and on two.
inline void expect_same_on_two_threads(const Compute& compute,
                                       const std::vector<at::Tensor>& values,
                                       const at::Tensor& cotangent) {
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const Differentiated one = differentiate(compute, values, cotangent);
    at::set_num_threads(2);
    const Differentiated two = differentiate(compute, values, cotangent);
    at::set_num_threads(threads);
    expect_equal(two.output, one.output, "output");
    for (std::size_t i = 0; i < values.size(); ++i) {
        expect_equal(two.grads[i], one.grads[i], "gradient " + std::to_string(i));
    }
}

}  // namespace matrix::test
