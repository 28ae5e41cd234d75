#include "matrix/kernels/fp8.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "kernels/self_check.h"
#ifdef MATRIX_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

namespace matrix::kernels {
namespace {

constexpr double kLargest = 448.0;            // of float8_e4m3fn
constexpr std::int64_t kColumnsAtOnce = 128;  // of a product whose operands are widened

void product_by_definition(const at::Tensor& out, const Fp8Rows& x, const Fp8Rows& w,
                           const at::Tensor& bias) {
    const at::Tensor rows = x.values.to(at::kFloat);
    for (std::int64_t begin = 0; begin < out.size(1); begin += kColumnsAtOnce) {
        const std::int64_t count = std::min(kColumnsAtOnce, out.size(1) - begin);
        const auto part = [&](const at::Tensor& of_outputs) {
            return of_outputs.narrow(0, begin, count);
        };
        const at::Tensor target = out.narrow(1, begin, count);
        at::Tensor y =
            out.scalar_type() == at::kFloat ? target : at::empty(target.sizes(), rows.options());
        at::mm_out(y, rows, part(w.values).to(at::kFloat).t());
        y.mul_(x.scale).mul_(part(w.scale).t());
        if (bias.defined()) {
            y.add_(part(bias));
        }
        target.copy_(y);
    }
}

#ifdef MATRIX_WITH_CUDA
void product_by_gpu(at::Tensor out, const Fp8Rows& x, const Fp8Rows& w, const at::Tensor& bias) {
    at::_scaled_mm_out(out, x.values, w.values.t(), x.scale, w.scale.t(),
                       bias.defined() ? std::optional(bias) : std::nullopt, std::nullopt,
                       out.scalar_type(), false);
}

Comparison compare(const at::TensorOptions& options) {
    // Rows of one size would not show whose scale was taken.
    const auto random = [&](std::int64_t rows, std::uint64_t seed) {
        return fp8_rows(check_values({rows, 64}, options, seed) *
                        at::linspace(1, 3, rows, options).unsqueeze(1));
    };
    const Fp8Rows x = random(51, 1), w = random(48, 2);
    const at::Tensor bias = check_values(48, options, 3);
    const at::Tensor by_gpu = at::empty({51, 48}, options), wanted = at::empty_like(by_gpu);
    product_by_gpu(by_gpu, x, w, bias);
    product_by_definition(wanted, x, w, bias);
    return {{by_gpu}, {wanted}};
}

bool gpu_multiplies(const at::Tensor& out, const Fp8Rows& w) {
    static SelfChecks checks;
    if (!out.is_cuda() || out.scalar_type() != at::kBFloat16 || w.values.size(0) % 16 != 0 ||
        w.values.size(1) % 16 != 0) {
        return false;
    }
    const auto* const gpu = at::cuda::getDeviceProperties(out.get_device());
    return 10 * gpu->major + gpu->minor >= 89 &&
           checks.passed("float8 products", out.options(), compare);
}
#endif

}  // namespace

Fp8Rows fp8_rows(const at::Tensor& matrix) {
    // By a tensor, since by a number a GPU multiplies with its rounded inverse: scales would be
    // others than a CPU's, and values that lie between two of float8's would go the other way.
    const at::Tensor largest = at::full({1}, kLargest, matrix.options().dtype(at::kFloat));
    const at::Tensor filling = matrix.abs().amax(1, true).to(at::kFloat) / largest;
    const at::Tensor scale =
        at::where(filling >= std::numeric_limits<float>::min(), filling, at::ones_like(filling));
    return {(matrix / scale).to(at::kFloat8_e4m3fn), scale};
}

at::Tensor widened(const Fp8Rows& rows, at::ScalarType dtype) {
    return rows.values.to(at::kFloat).mul_(rows.scale).to(dtype);
}

void fp8_product_out(const at::Tensor& out, const Fp8Rows& x, const Fp8Rows& w,
                     const at::Tensor& bias) {
    TORCH_CHECK(x.values.size(1) == w.values.size(1) && out.size(0) == x.values.size(0) &&
                    out.size(1) == w.values.size(0),
                "fp8_product: x ", x.values.sizes(), ", w ", w.values.sizes(), ", out ",
                out.sizes());
#ifdef MATRIX_WITH_CUDA
    if (gpu_multiplies(out, w)) {
        product_by_gpu(out, x, w, bias);
        return;
    }
#endif
    product_by_definition(out, x, w, bias);
}

}  // namespace matrix::kernels
