#include "kernels/attention_backends.h"

#include <ATen/ATen.h>

namespace matrix::kernels {
namespace {

AttentionBackend flash() {
    return {
        "flash",
        [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           double scale) -> AttentionResult {
            auto r = at::_scaled_dot_product_flash_attention(q, k, v, 0.0, false, false, scale);
            return {std::get<0>(r), std::get<1>(r), {std::get<6>(r), std::get<7>(r)}};
        },
        [](const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           const AttentionResult& result, double scale) -> AttentionGradients {
            return at::_scaled_dot_product_flash_attention_backward(
                grad, q, k, v, result.output, result.log_sum_exp, {}, {}, q.size(2), k.size(2), 0.0,
                false, result.saved[0], result.saved[1], scale);
        }};
}

AttentionBackend efficient() {
    return {
        "memory-efficient",
        [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           double scale) -> AttentionResult {
            auto [out, lse, philox_seed, philox_offset] =
                at::_scaled_dot_product_efficient_attention(q, k, v, {}, true, 0.0, false, scale);
            // The kernel pads its log-sum-exp to a multiple of 32 rows; its backward wants the
            // padding back.
            return {out, lse.narrow(2, 0, q.size(2)), {lse, philox_seed, philox_offset}};
        },
        [](const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           const AttentionResult& result, double scale) -> AttentionGradients {
            auto grads = at::_scaled_dot_product_efficient_attention_backward(
                grad, q, k, v, {}, result.output, result.saved[0], result.saved[1], result.saved[2],
                0.0, {true, true, true, false}, false, scale);
            return {std::get<0>(grads), std::get<1>(grads), std::get<2>(grads)};
        }};
}

AttentionBackend cudnn() {
    return {
        "cuDNN",
        [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           double scale) -> AttentionResult {
            auto r = at::_scaled_dot_product_cudnn_attention(q, k, v, {}, true, 0.0, false, false,
                                                             scale);
            const at::Tensor& lse = std::get<1>(r);  // [B, H, S, 1]
            return {std::get<0>(r), lse.flatten(2), {lse, std::get<6>(r), std::get<7>(r)}};
        },
        [](const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           const AttentionResult& result, double scale) -> AttentionGradients {
            return at::_scaled_dot_product_cudnn_attention_backward(
                grad, q, k, v, result.output, result.saved[0], result.saved[1], result.saved[2], {},
                {}, {}, q.size(2), k.size(2), 0.0, false, scale);
        }};
}

/// [.., d] with d rounded up.
at::Tensor widened(const at::Tensor& heads) {
    constexpr std::int64_t kMultiple = 8;
    const std::int64_t odd = heads.size(3) % kMultiple;
    return odd == 0 ? heads : at::constant_pad_nd(heads, {0, kMultiple - odd});
}

}  // namespace

AttentionBackend with_channels_added(AttentionBackend backend) {
    const AttentionBackend of = std::move(backend);
    return {
        of.name,
        [of](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
            AttentionResult result = of.run(widened(q), widened(k), widened(v), scale);
            result.output = result.output.narrow(3, 0, q.size(3));
            return result;
        },
        [of](const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
             const AttentionResult& result, double scale) -> AttentionGradients {
            const auto [grad_q, grad_k, grad_v] =
                of.run_backward(widened(grad), widened(q), widened(k), widened(v),
                                {widened(result.output), result.log_sum_exp, result.saved}, scale);
            const auto own = [&](const at::Tensor& x) { return x.narrow(3, 0, q.size(3)); };
            return {own(grad_q), own(grad_k), own(grad_v)};
        }};
}

const AttentionBackend& cpu_attention() {
    static const AttentionBackend backend = {
        "CPU flash",
        [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           double scale) -> AttentionResult {
            auto [out, lse] =
                at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, false, {}, scale);
            return {out, lse, {}};
        },
        [](const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           const AttentionResult& result, double scale) -> AttentionGradients {
            return at::_scaled_dot_product_flash_attention_for_cpu_backward(
                grad, q, k, v, result.output, result.log_sum_exp, 0.0, false, {}, scale);
        }};
    return backend;
}

std::vector<AttentionBackend> cuda_attentions(at::ScalarType dtype) {
    return dtype == at::kFloat
               ? std::vector{with_channels_added(efficient())}
               : std::vector{with_channels_added(cudnn()), with_channels_added(flash())};
}

}  // namespace matrix::kernels
