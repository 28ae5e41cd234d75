#include "kernels/pass/mask_loss.h"

#include <algorithm>

#include "kernels/cpu/exp.h"

namespace matrix::kernels::cpu {
namespace {

/// What a pixel's logit says about its wrong class: t = -x where y = 1, else x. Nothing is taken
/// from 1, so that what is nearly right keeps its digits.
struct Pixel {
    float wrong, right;   ///< sigmoid(t), sigmoid(-t)
    float cross_entropy;  ///< log(1 + exp(t))
};

/// log(1 + e) for e in [0, 1], to a relative 3e-7; `quotient` is e / (2 + e).
MATRIX_CPU_INLINE float log_one_plus(float quotient) {
    // 2 atanh(z), interpolated in z^2 on [0, 1/9] at Chebyshev's nodes, to 1e-9.
    const float w = quotient * quotient;
    float p = 0.243939078F;
    p = p * w + 0.213985606F;
    p = p * w + 0.286202074F;
    p = p * w + 0.399987112F;
    p = p * w + 0.66666679F;
    p = p * w + 2.0F;
    return p * quotient;
}

MATRIX_CPU_INLINE Pixel pixel(float x, bool positive) {
    const float t = positive ? -x : x;
    // The difference is zero, or no number where the logit is none: exp() would hide that.
    const float e = exp(t < 0 ? t : -t) + (t - t);
    // 1 / (1 + e) and e / (2 + e) by one division.
    const float inverse = 1 / ((1 + e) * (2 + e));
    const float larger = (2 + e) * inverse, smaller = e * larger;
    const float overshoot = t < 0 ? 0 : t;
    return {t < 0 ? smaller : larger, t < 0 ? larger : smaller,
            overshoot + log_one_plus(e * (1 + e) * inverse)};
}

struct Block {
    std::int64_t entity, first, count;
};

MATRIX_CPU_INLINE Block block_at(std::int64_t index, std::int64_t pixels) {
    const std::int64_t entity = index / pass::blocks_of(pixels);
    const std::int64_t begin = (index - entity * pass::blocks_of(pixels)) * pass::kBlockPixels;
    return {entity, entity * pixels + begin, std::min(pass::kBlockPixels, pixels - begin)};
}

constexpr std::int64_t kRun = 512;  ///< pixels whose sums of values up to 1 fit float32

MATRIX_CPU_INLINE void add_run(const float* x, const std::uint8_t* y, std::int64_t count,
                               double* sums) {
    // One width of elements a loop, or the compiler takes vectors of as many bytes as pixels.
    float target[kRun], cross_entropy[kRun], inside[kRun];
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        target[i] = y[i] != 0 ? 1.0F : 0.0F;
    }
    float positives = 0, overlap = 0, foreground = 0, squares = 0;
#pragma omp simd reduction(+ : positives, overlap, foreground, squares)
    for (std::int64_t i = 0; i < count; ++i) {
        const bool positive = target[i] != 0;
        const Pixel p = pixel(x[i], positive);
        cross_entropy[i] = p.cross_entropy;
        inside[i] = positive ? p.cross_entropy : 0.0F;
        positives += target[i];
        overlap += positive ? p.right : 0.0F;
        foreground += positive ? p.right : p.wrong;
        squares += p.wrong * p.wrong;
    }
    // Without a bound: in float32 the sum could overflow.
    double positive_bce = 0, all_bce = 0;
#pragma omp simd reduction(+ : positive_bce, all_bce)
    for (std::int64_t i = 0; i < count; ++i) {
        positive_bce += inside[i];
        all_bce += cross_entropy[i];
    }
    const double all[] = {positives, positive_bce, all_bce, overlap, foreground, squares};
    for (int k = 0; k < 6; ++k) {
        sums[k] += all[k];
    }
}

MATRIX_CPU_INLINE void sum_block(const float* x, const std::uint8_t* y, std::int64_t count,
                                 double* sums) {
    std::fill_n(sums, 6, 0.0);
    for (std::int64_t i = 0; i < count; i += kRun) {
        add_run(x + i, y + i, std::min(kRun, count - i), sums);
    }
}

MATRIX_CPU_INLINE void gradient_block(const float* x, const std::uint8_t* y, std::int64_t count,
                                      const pass::MaskSlopes& given, float* grad) {
    const pass::MaskSlopes s = given;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        const bool positive = y[i] != 0;
        const Pixel p = pixel(x[i], positive);
        const float miss = positive ? -p.wrong : p.wrong;
        const float bce = s.bce + (positive ? s.extra_bce : 0.0F);
        const float by_s = miss * s.square + s.everywhere + (positive ? s.inside : 0.0F);
        grad[i] = miss * bce + by_s * (p.wrong * p.right);
    }
}

}  // namespace
}  // namespace matrix::kernels::cpu

namespace matrix::kernels::pass {

MATRIX_CPU_CLONES void run(const MaskSums& a, std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
        const cpu::Block b = cpu::block_at(index, a.pixels);
        cpu::sum_block(a.x + b.first, a.y + b.first, b.count, a.sums + 6 * index);
    }
}

MATRIX_CPU_CLONES void run(const MaskGradient& a, std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
        const cpu::Block b = cpu::block_at(index, a.pixels);
        cpu::gradient_block(a.x + b.first, a.y + b.first, b.count, a.slopes[b.entity],
                            a.grad + b.first);
    }
}

}  // namespace matrix::kernels::pass
