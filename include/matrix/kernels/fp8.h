#pragma once

#include <ATen/core/Tensor.h>

namespace matrix::kernels {

/// A matrix in float8: each row is its values times its scale.
struct Fp8Rows {
    at::Tensor values;  ///< [n, k] float8_e4m3fn
    at::Tensor scale;   ///< [n, 1] float32
};

/// The rows of a float32 or bfloat16 matrix [n, k], each scaled so that its largest magnitude is
/// 448, the largest of the format. A row without a normal number to scale by, of zeros for
/// instance, has scale 1; a row that is not finite gets NaN.
[[nodiscard]] Fp8Rows fp8_rows(const at::Tensor& matrix);

/// The matrix in another dtype, each value rounded once.
[[nodiscard]] at::Tensor widened(const Fp8Rows& rows, at::ScalarType dtype);

/// x w^T + bias into `out` [n, out] of float32 or bfloat16: float8 products are summed in float32,
/// then both scales multiply, `bias` ([out], or undefined) is added, and the result is rounded
/// once. A GPU of compute capability 8.9 or more multiplies float8 itself, once that has agreed
/// with the definition, where `out` is bfloat16 and widths are multiples of 16; elsewhere the
/// operands are widened piece by piece.
void fp8_product_out(const at::Tensor& out, const Fp8Rows& x, const Fp8Rows& w,
                     const at::Tensor& bias);

}  // namespace matrix::kernels
