#pragma once

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

}  // namespace matrix::test
