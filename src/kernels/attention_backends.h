#pragma once

#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "matrix/kernels/attention.h"

namespace matrix::kernels {

using AttentionGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // of q, k, v

/// A fused kernel for attention and its backward, on q, k, v as kernels::attention has them.
struct AttentionBackend {
    std::string name;
    std::function<AttentionResult(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  double scale)>
        run;
    std::function<AttentionGradients(const at::Tensor& grad, const at::Tensor& q,
                                     const at::Tensor& k, const at::Tensor& v,
                                     const AttentionResult& result, double scale)>
        run_backward;
};

/// The same with heads of any width: those that are no multiple of 8, which kernels for GPUs ask
/// for, get channels of zeros.
[[nodiscard]] AttentionBackend with_channels_added(AttentionBackend backend);

/// CPUs have one; it also takes float64.
[[nodiscard]] const AttentionBackend& cpu_attention();

/// What may do on a GPU, in no order: cuDNN and flash; for float32, which neither takes, the
/// memory-efficient one, four times slower than cuDNN in bfloat16 and wrong there for heads of 10
/// channels (an H100). None is ever given a mask or dropout, with which some are known to be wrong.
[[nodiscard]] std::vector<AttentionBackend> cuda_attentions(at::ScalarType dtype);

}  // namespace matrix::kernels
