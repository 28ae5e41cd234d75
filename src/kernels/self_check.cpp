#include "kernels/self_check.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <exception>
#include <sstream>

#include "matrix/log/log.h"

namespace matrix::kernels {
namespace {

// Of the largest value: what other orders of sums differ by in float32, and a few roundings to
// eight bits in bfloat16, where what a kernel stands for rounds after each operation.
constexpr double kFloatTolerance = 1e-4, kBfloat16Tolerance = 5e-2;

std::string outcome(const at::TensorOptions& options, const Compare& compare) {
    try {
        const bool narrow = options.dtype().toScalarType() == at::kBFloat16;
        return fault_of(compare(options), narrow ? kBfloat16Tolerance : kFloatTolerance);
    } catch (const std::exception& error) {
        const std::string what = error.what();
        return what.substr(0, what.find('\n'));
    }
}

}  // namespace

std::string fault_of(const Comparison& comparison, double tolerance) {
    TORCH_CHECK(comparison.by_kernel.size() == comparison.wanted.size(), "compared ",
                comparison.by_kernel.size(), " tensors with ", comparison.wanted.size());
    for (std::size_t i = 0; i < comparison.wanted.size(); ++i) {
        const at::Tensor wanted = comparison.wanted[i].detach().to(at::kCPU, at::kDouble),
                         actual = comparison.by_kernel[i].detach().to(at::kCPU, at::kDouble);
        const auto difference = (actual - wanted).abs().max().item<double>(),
                   largest = wanted.abs().max().item<double>();
        if (!(difference <= tolerance * largest)) {
            std::ostringstream text;
            text << "its tensor " << i << " is off by " << difference << " of " << largest;
            return text.str();
        }
    }
    return {};
}

bool SelfChecks::passed(const std::string& kernel, const at::TensorOptions& options,
                        const Compare& compare) {
    const std::string key = kernel + " fails its check on " + options.device().str() + " in " +
                            c10::toString(options.dtype().toScalarType());
    {
        const std::lock_guard lock(mutex_);
        if (const auto found = passed_.find(key); found != passed_.end()) {
            return found->second;
        }
    }
    // Not under the lock: gradients come from other threads, which may ask too.
    const std::string fault = outcome(options, compare);
    const std::lock_guard lock(mutex_);
    const auto [entry, is_first] = passed_.emplace(key, fault.empty());
    if (is_first && !fault.empty()) {
        log::warning("the kernel for " + key + " and is not used: " + fault);
    }
    return entry->second;
}

bool has_passes(const at::Tensor& x, [[maybe_unused]] const std::string& kernel,
                [[maybe_unused]] const Compare& compare) {
    if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) {
        return false;
    }
#ifdef MATRIX_WITH_CUDA
    static SelfChecks checks;
    return x.is_cpu() || (x.is_cuda() && checks.passed(kernel, x.options(), compare));
#else
    return x.is_cpu();
#endif
}

at::Tensor check_values(at::IntArrayRef shape, const at::TensorOptions& options,
                        std::uint64_t seed) {
    return at::randn(shape, at::detail::createCPUGenerator(seed), at::kFloat).to(options);
}

at::Tensor check_cotangent(const at::Tensor& value) {
    constexpr std::uint64_t kSeed = 100;
    return check_values(value.sizes(), value.options(), kSeed);
}

std::vector<at::Tensor> with_gradients(
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& function,
    const std::vector<at::Tensor>& inputs) {
    const at::AutoGradMode grad_mode(true);
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& input : inputs) {
        leaves.push_back(input.detach().set_requires_grad(true));
    }
    std::vector<at::Tensor> results = {function(leaves)};
    for (const at::Tensor& grad :
         torch::autograd::grad({results[0]}, leaves, {check_cotangent(results[0])})) {
        results.push_back(grad);
    }
    return results;
}

}  // namespace matrix::kernels
