#pragma once

#include "kernels/cpu/loops.h"

namespace matrix::kernels::cpu {

/// exp(x) to a relative 2e-7 for |x| <= 87; x beyond, or not a number, is taken as +-87.
MATRIX_CPU_INLINE float exp(float x) {
    constexpr auto kLimit = std::bit_cast<std::uint32_t>(87.0F);
    constexpr float kLog2E = 1.44269504F;
    // ln 2 in two parts, the first with so few bits that n times it is exact.
    constexpr float kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
    // Adding 1.5 2^23 leaves the nearest integer in the low bits.
    constexpr float kRound = 12582912.0F;
    // Of bits rather than of numbers: the compiler would divide by what a limit leads to in a
    // branch of its own, and results that small are slow.
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t magnitude = bits & 0x7fffffff;
    x = std::bit_cast<float>((magnitude < kLimit ? magnitude : kLimit) | (bits & 0x80000000));
    const float shifted = x * kLog2E + kRound;
    const float n = shifted - kRound;
    const float r = x - n * kLn2High - n * kLn2Low;
    // Interpolates exp on [-ln 2 / 2, ln 2 / 2] at Chebyshev's nodes, to 3e-9.
    float p = 1.39412E-3F;
    p = p * r + 8.37521E-3F;
    p = p * r + 4.1666355E-2F;
    p = p * r + 1.6666415E-1F;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + exponent);
}

}  // namespace matrix::kernels::cpu
