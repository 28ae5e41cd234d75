#include "kernels/attention_choice.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>

#include "matrix/core/error.h"
#include "matrix/log/log.h"

namespace matrix::kernels {
namespace {

// Half of 128 beyond a multiple of it: where one of the kernels has been wrong before.
constexpr std::int64_t kCheckedRows = 192;

std::string described(const at::Tensor& q) {
    std::ostringstream text;
    text << q.device() << ", " << c10::toString(q.scalar_type()) << ' ' << q.sizes();
    return text.str();
}

std::vector<at::Tensor> plain(const std::vector<at::Tensor>& inputs, double scale) {
    const at::Tensor scores = at::matmul(inputs[0], inputs[1].transpose(-1, -2)) * scale;
    return {at::matmul(at::softmax(scores, -1), inputs[2]), at::logsumexp(scores, -1)};
}

Comparison compare(const AttentionBackend& backend, const at::TensorOptions& options,
                   std::int64_t head_dim) {
    const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
    // Plain operations on the CPU: PyTorch warns of the first product of an autograd thread that
    // has not met the GPU yet.
    std::vector<at::Tensor> inputs, wide;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        // Rows of heads as a block has them, side by side.
        inputs.push_back(
            check_values({1, kCheckedRows, 2, head_dim}, options, seed).transpose(1, 2));
        wide.push_back(inputs.back().to(at::kCPU, at::kFloat));
    }
    Comparison comparison;
    comparison.wanted = with_gradients([&](const auto& x) { return plain(x, scale)[0]; }, wide);
    comparison.wanted.push_back(plain(wide, scale)[1]);
    const at::AutoGradMode grad_mode(false);
    const AttentionResult result = backend.run(inputs[0], inputs[1], inputs[2], scale);
    const at::Tensor grad = check_cotangent(result.output);
    const auto [q, k, v] =
        backend.run_backward(grad, inputs[0], inputs[1], inputs[2], result, scale);
    comparison.by_kernel = {result.output, q, k, v, result.log_sum_exp};
    return comparison;
}

}  // namespace

const AttentionBackend& AttentionChoice::of(const at::Tensor& q, const at::Tensor& k,
                                            const at::Tensor& v, double scale) {
    const std::string key = described(q);
    {
        const std::lock_guard lock(mutex_);
        if (const auto found = chosen_.find(key); found != chosen_.end()) {
            return *found->second;
        }
    }
    const AttentionBackend& backend = fastest(q, k, v, scale);
    const std::lock_guard lock(mutex_);
    return *chosen_.emplace(key, &backend).first->second;
}

const AttentionBackend& AttentionChoice::fastest(const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, double scale) {
    const at::AutoGradMode grad_mode(false);
    std::vector<const AttentionBackend*> right;
    for (const AttentionBackend& backend : candidates_) {
        const auto compared = [&](const at::TensorOptions& options) {
            return compare(backend, options, q.size(3));
        };
        if (checks_.passed(
                backend.name + " attention with " + std::to_string(q.size(3)) + " channels a head",
                q.options(), compared)) {
            right.push_back(&backend);
        }
    }
    if (right.empty()) {
        throw RunError("attention on " + described(q) +
                       ": no kernel of LibTorch gives right results on this device; choose another "
                       "dtype or device");
    }
    if (right.size() == 1) {
        return *right.front();
    }
    const AttentionBackend* best = nullptr;
    double least = std::numeric_limits<double>::infinity();
    std::ostringstream times;
    for (const AttentionBackend* backend : right) {
        const double seconds = seconds_of(*backend, q, k, v, scale);
        times << (best == nullptr ? "" : ", ") << backend->name << ' ' << std::setprecision(3)
              << seconds * 1e3 << " ms";
        if (best == nullptr || seconds < least) {
            best = backend;
            least = seconds;
        }
    }
    log::info("attention on " + described(q) + ": " + best->name + ", the fastest of " +
              times.str());
    return *best;
}

double AttentionChoice::seconds_of(const AttentionBackend& backend, const at::Tensor& q,
                                   const at::Tensor& k, const at::Tensor& v, double scale) const {
    try {
        return seconds_(q, [&] {
            const AttentionResult result = backend.run(q, k, v, scale);
            (void)backend.run_backward(result.output, q, k, v, result, scale);
        });
    } catch (const std::exception& error) {
        const std::string what = error.what();
        log::warning("attention on " + described(q) + ": " + backend.name +
                     " fails and is not used: " + what.substr(0, what.find('\n')));
        return std::numeric_limits<double>::infinity();
    }
}

}  // namespace matrix::kernels
