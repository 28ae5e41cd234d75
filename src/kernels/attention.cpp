#include "matrix/kernels/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace matrix::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

enum class Backend { kCpu, kCudaFlash, kCudaEfficient };

Backend backend_for(const at::Tensor& query) {
    if (!query.is_cuda()) {
        return Backend::kCpu;
    }
    return query.scalar_type() == at::kFloat ? Backend::kCudaEfficient : Backend::kCudaFlash;
}

AttentionResult run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
    switch (backend_for(q)) {
        case Backend::kCpu: {
            auto [out, lse] =
                at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, false, {}, scale);
            return {out, lse, {}};
        }
        case Backend::kCudaFlash: {
            auto r = at::_scaled_dot_product_flash_attention(q, k, v, 0.0, false, false, scale);
            return {std::get<0>(r), std::get<1>(r), {std::get<6>(r), std::get<7>(r)}};
        }
        case Backend::kCudaEfficient: {
            auto [out, lse, philox_seed, philox_offset] =
                at::_scaled_dot_product_efficient_attention(q, k, v, {}, true, 0.0, false, scale);
            // The kernel pads its log-sum-exp to a multiple of 32 rows; its backward wants the
            // padding back.
            return {out, lse.narrow(2, 0, q.size(2)), {lse, philox_seed, philox_offset}};
        }
    }
    TORCH_CHECK(false, "unreachable");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> run_backward(
    const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const AttentionResult& result, double scale) {
    switch (backend_for(q)) {
        case Backend::kCpu:
            return at::_scaled_dot_product_flash_attention_for_cpu_backward(
                grad, q, k, v, result.output, result.log_sum_exp, 0.0, false, {}, scale);
        case Backend::kCudaFlash:
            return at::_scaled_dot_product_flash_attention_backward(
                grad, q, k, v, result.output, result.log_sum_exp, {}, {}, q.size(2), k.size(2), 0.0,
                false, result.saved[0], result.saved[1], scale);
        case Backend::kCudaEfficient: {
            auto grads = at::_scaled_dot_product_efficient_attention_backward(
                grad, q, k, v, {}, result.output, result.saved[0], result.saved[1], result.saved[2],
                0.0, {true, true, true, false}, false, scale);
            return {std::get<0>(grads), std::get<1>(grads), std::get<2>(grads)};
        }
    }
    TORCH_CHECK(false, "unreachable");
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
        const AttentionResult result{saved[3], saved[4], {saved.begin() + 5, saved.end()}};
        auto [grad_q, grad_k, grad_v] = run_backward(grads[0], saved[0], saved[1], saved[2], result,
                                                     ctx->saved_data["scale"].toDouble());
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
        result = kept ? *kept : run(query, key, value, scale);
    }
    at::Tensor output = Attention::apply(query, key, value, scale, result);
    return {output, result.log_sum_exp, result.saved};
}

}  // namespace matrix::kernels
