#include "matrix/kernels/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "kernels/attention_choice.h"
#include "matrix/core/transfer.h"

namespace matrix::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The least of a few calls after one that makes what a kernel keeps.
double cuda_seconds(const at::Tensor& on, const std::function<void()>& call) {
    constexpr int kCalls = 3;
    const auto timed = [&] {
        wait_for(on.device());
        const auto begin = std::chrono::steady_clock::now();
        call();
        wait_for(on.device());
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    (void)timed();
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kCalls; ++i) {
        least = std::min(least, timed());
    }
    return least;
}

/// The same for a call and its backward, which have the same shapes.
const AttentionBackend& backend_for(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    double scale) {
    if (!q.is_cuda()) {
        return cpu_attention();
    }
    static AttentionChoice narrow(cuda_attentions(at::kBFloat16), cuda_seconds);
    static AttentionChoice wide(cuda_attentions(at::kFloat), cuda_seconds);
    return (q.scalar_type() == at::kFloat ? wide : narrow).of(q, k, v, scale);
}

struct Attention : torch::autograd::Function<Attention> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, double scale, const AttentionResult& result) {
        // An alias: autograd must not see the kept tensor itself become an output of two functions.
        at::Tensor output = result.output.alias();
        variable_list saved = {q, k, v, output, result.log_sum_exp};
        saved.insert(saved.end(), result.saved.begin(), result.saved.end());
        ctx->save_for_backward(saved);
        ctx->saved_data["scale"] = scale;
        return output;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
        const double scale = ctx->saved_data["scale"].toDouble();
        const AttentionResult result{saved[3], saved[4], {saved.begin() + 5, saved.end()}};
        auto [grad_q, grad_k, grad_v] =
            backend_for(q, k, v, scale).run_backward(grads[0], q, k, v, result, scale);
        return {grad_q, grad_k, grad_v, {}, {}};
    }
};

}  // namespace

AttentionResult attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          double scale, const std::optional<AttentionResult>& kept) {
    TORCH_CHECK(query.dim() == 4 && key.dim() == 4 && key.sizes() == value.sizes() &&
                    query.sizes().slice(0, 2) == key.sizes().slice(0, 2) &&
                    query.size(3) == key.size(3),
                "attention wants [B, heads, S, head_dim], keys and values of one length, got ",
                query.sizes(), ", ", key.sizes(), ", ", value.sizes());
    AttentionResult result;
    {
        const at::NoGradGuard no_grad;
        result = kept ? *kept : backend_for(query, key, value, scale).run(query, key, value, scale);
    }
    at::Tensor output = Attention::apply(query, key, value, scale, result);
    return {output, result.log_sum_exp, result.saved};
}

}  // namespace matrix::kernels
