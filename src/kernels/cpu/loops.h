#pragma once

#include <bit>
#include <cstdint>

#include "kernels/pass/element.h"

// What the loops of this folder are made of. The compiler makes vector code of them for several
// generations of processors: the one that runs is chosen when the program is loaded. Helpers must
// be inlined into the function that is cloned, or they would be compiled for the oldest generation
// alone.

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define MATRIX_CPU_CLONES \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MATRIX_CPU_CLONES
#endif
#define MATRIX_CPU_INLINE inline __attribute__((always_inline))
#define MATRIX_CPU_LAMBDA __attribute__((always_inline))

namespace matrix::kernels::cpu {

using pass::Bfloat16;

MATRIX_CPU_INLINE float load(const float* x) {
    return *x;
}
MATRIX_CPU_INLINE float load(const Bfloat16* x) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(*x) << 16);
}
MATRIX_CPU_INLINE void store(float* x, float value) {
    *x = value;
}
/// Rounds to nearest, ties to even; what is not a number stays so.
MATRIX_CPU_INLINE void store(Bfloat16* x, float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *x = static_cast<Bfloat16>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

}  // namespace matrix::kernels::cpu
