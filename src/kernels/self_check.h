#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace matrix::kernels {

/// Values and gradients of one small random case: by a kernel, and by what it stands for.
struct Comparison {
    std::vector<at::Tensor> by_kernel, wanted;
};
using Compare = std::function<Comparison(const at::TensorOptions&)>;

/// Why a comparison fails, empty where it does not: a difference of more than `tolerance` times the
/// largest wanted value, or a value that is not finite.
[[nodiscard]] std::string fault_of(const Comparison& comparison, double tolerance);

/// Which kernels may be used: each is compared once for a device and dtype, in the first call that
/// asks for it. One that disagrees or throws is reported once, and not used for the rest of the
/// process. Any thread may ask; a comparison waits for its device.
class SelfChecks {
public:
    bool passed(const std::string& kernel, const at::TensorOptions& options,
                const Compare& compare);

private:
    std::mutex mutex_;
    std::map<std::string, bool> passed_;  ///< by kernel, device and dtype
};

/// Whether the passes of src/kernels/pass take a tensor, or it is for ATen's operations: float32
/// and bfloat16 on CPUs, and on a GPU, in a program that is built for it, where they agree with
/// `compare`.
[[nodiscard]] bool has_passes(const at::Tensor& x, const std::string& kernel,
                              const Compare& compare);

/// Normal random values that depend on shape and seed alone, and leave every generator as it was.
[[nodiscard]] at::Tensor check_values(at::IntArrayRef shape, const at::TensorOptions& options,
                                      std::uint64_t seed);

/// A random gradient of a value.
[[nodiscard]] at::Tensor check_cotangent(const at::Tensor& value);

/// The value of a function of `inputs`, then their gradients from check_cotangent().
[[nodiscard]] std::vector<at::Tensor> with_gradients(
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& function,
    const std::vector<at::Tensor>& inputs);

}  // namespace matrix::kernels
